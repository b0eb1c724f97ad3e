"""Keep what a patch attends to: a generic instruction for facts worth keeping (EpiCache, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.policy.base import LayerView, Policy, Queries

INSTRUCTION = (
    "\nList what is worth remembering from the conversation above: who each person is, what happened and when, "
    "plans, preferences, promises, opinions, numbers and names.\n"
)


@dataclass(frozen=True)
class PatchedPrompt(Policy):
    """Score = the most attention any query of the patch pays to an entry, over the query group of its KV head."""

    patch: str | None = INSTRUCTION
    queries: Queries = "patch"

    def score(self, layer: LayerView) -> Tensor:
        """max over group and patch of softmax(q k / sqrt d), fp32, over cached keys only; [KV heads, entries]."""
        assert layer.queries is not None
        kv_heads = layer.keys.shape[0]
        heads = [self._head(queries, keys, layer.scale) for queries, keys in self._groups(layer, kv_heads)]
        return torch.stack(heads)

    def _groups(self, layer: LayerView, kv_heads: int) -> list[tuple[Tensor, Tensor]]:
        assert layer.queries is not None
        grouped = layer.queries.reshape(kv_heads, -1, layer.queries.shape[-1])
        return list(zip(grouped, layer.keys, strict=True))

    def _head(self, queries: Tensor, keys: Tensor, scale: float) -> Tensor:
        """[group x patch, size] against [entries, size] -> [entries]."""
        attention = (queries.to(torch.float32) @ keys.to(torch.float32).T).mul_(scale).softmax(-1)
        return attention.amax(0)
