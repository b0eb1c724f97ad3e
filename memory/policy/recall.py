"""Recall what the current queries attend to: their probabilities summed over the query group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.policy.base import LayerView, Policy, Queries, probabilities


@dataclass(frozen=True)
class Recall(Policy):
    """Score = the attention that the current queries pay to a stored token, all query heads of its KV head together.

    A neighbour of a token counts for `decay` of it, the next one for `decay` squared, `reach` tokens far: what is being
    read off word by word is needed next. `docs/decisions` has the figures behind the defaults.
    """

    queries: Queries = "current"
    still: float = 0.9
    every: int = 64
    pace: float = 0.25
    shortlist: float = 8.0
    fallback: float = 1.0
    reach: int = 3
    decay: float = 0.3

    def score(self, layer: LayerView) -> Tensor:
        """sum over queries of softmax(q k / sqrt d), fp32, over candidates and what is resident anyway; [KV heads,
        entries]."""
        scores = probabilities(layer).sum(1)
        spread = scores.clone()
        for step in range(1, min(self.reach + 1, scores.shape[-1])):
            share = scores * self.decay**step
            torch.maximum(spread[:, step:], share[:, :-step], out=spread[:, step:])
            torch.maximum(spread[:, :-step], share[:, step:], out=spread[:, :-step])
        return spread
