"""Keep the keys that differ most from the others (KeyDiff, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from memory.policy.base import LayerView, Policy


@dataclass(frozen=True)
class KeyDiff(Policy):
    """The less a key resembles the mean direction of its head's keys, the higher."""

    def score(self, layer: LayerView) -> Tensor:
        """-cos(key, mean of unit keys), fp32; [KV heads, entries]."""
        keys = layer.keys.to(torch.float32)
        anchor = normalize(keys, dim=-1).mean(1, keepdim=True)
        return -cosine_similarity(keys, anchor, dim=-1)
