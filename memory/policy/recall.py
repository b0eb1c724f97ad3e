"""Recall what the current queries attend to: their probabilities summed over the query group (design 4.7)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from memory.policy.base import LayerView, Policy, Queries, probabilities


@dataclass(frozen=True)
class Recall(Policy):
    """Score = the attention that the current queries pay to a stored token, all query heads of its KV head together.

    `every`: tokens between two choices. `shortlist`: candidates per resident entry that the digests name.
    """

    queries: Queries = "current"
    every: int = 4
    shortlist: float = 4.0

    def score(self, layer: LayerView) -> Tensor:
        """sum over queries of softmax(q k / sqrt d), fp32, over candidates and what is resident anyway."""
        return probabilities(layer).sum(1)
