"""What a selection policy is: one dataclass with one method that scores the entries of a layer; higher means keep.

A policy never moves or deletes anything. It declares what it needs (`patch`), and `select` turns its scores and the
protected entries into the entries that stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerView:
    """What a policy may look at in one layer.

    `keys`, `values` [KV heads, entries, size] in place; `origins` [KV heads, entries] int32, the position in the
    conversation each entry came from; `queries` [query heads, patch tokens, size], rotated, or None without a patch;
    `scale` what scores are multiplied with; `seen` the true length of the conversation.
    """

    keys: Tensor
    values: Tensor
    origins: Tensor
    queries: Tensor | None
    scale: float
    seen: int


@dataclass(frozen=True, slots=True)
class Protection:
    """Entries that always stay: the first `sinks`, the system prompt's first `prefix`, the last `recent` tokens."""

    sinks: int = 4
    prefix: int = 0
    recent: int = 256

    def mask(self, origins: Tensor, seen: int) -> Tensor:
        """True where protected, [KV heads, entries]."""
        return (origins < max(self.sinks, self.prefix)) | (origins >= seen - self.recent)

    @property
    def entries(self) -> int:
        """Entries per head that this protects at most."""
        return max(self.sinks, self.prefix) + self.recent


class Policy(ABC):
    """Base of all policies. `patch` is the text whose queries score the cache (None: no pass of the model needed)."""

    patch: str | None = None

    @abstractmethod
    def score(self, layer: LayerView) -> Tensor:
        """Scores [KV heads, entries] in fp32."""


def select(scores: Tensor, protected: Tensor, count: int) -> Tensor:
    """The `count` entries per head to keep, ascending [KV heads, count] int64.

    Protected entries score +inf, so no tie can push one out. Every head keeps exactly `count`: no head can starve.
    """
    ranked = scores.to(torch.float32).masked_fill(protected, torch.inf)
    return ranked.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
