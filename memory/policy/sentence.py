"""Recall whole sentences, by their mean key, whenever one has ended (SentenceKV, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.policy.base import LayerView, Policy, Queries, Unit, probabilities


@dataclass(frozen=True)
class Sentence(Policy):
    """Score = the attention that a sentence's mean key would get, the same for each of its tokens."""

    queries: Queries = "current"
    unit: Unit = "sentence"
    still: float = 2.0
    shortlist: float = 8.0

    def score(self, layer: LayerView) -> Tensor:
        """sum over queries of exp(q mean(k) / sqrt d), to a factor a query, fp32; [KV heads, entries].

        The logarithm of a token's attention is its key's product with the query and a constant, so its mean over the
        tokens of a sentence is that of the mean key.
        """
        assert layer.sentences is not None
        logs = probabilities(layer).clamp_min(torch.finfo(torch.float32).tiny).log()
        at = layer.sentences.diff(prepend=layer.sentences[:1]).ne(0).cumsum(0)
        count = torch.bincount(at)
        means = torch.zeros((*logs.shape[:2], count.numel())).index_add_(2, at, logs) / count
        return means.exp().sum(1).index_select(1, at)
