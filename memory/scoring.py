"""Queries times stored keys, as they are attended to.

Inside the trained window a stored key is rotated to where it stands. In a re-indexed layer it is not: each is rotated
to its place among the entries before it is asked, so that a token is chosen by what it gets once it is resident.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.block import CHUNK
from memory.cache import WorkingSetLayer
from memory.codec import RowCodec


@dataclass(frozen=True, slots=True)
class Scoring:
    """For layer `index`; `homes` [tokens] is where the key of each was first rotated, `room` fp32 is written over."""

    codec: RowCodec
    layer: WorkingSetLayer
    index: int
    homes: Tensor
    room: Tensor

    def dots(self, queries: Tensor, sections: Tensor, tokens: Tensor) -> Tensor:
        """`queries` [KV heads, n, size] times the keys of `sections`, which are those of `tokens` [m]: [KV heads, n,
        m]."""
        if not self.layer.reindexed:
            return self.codec.dots(self.index, sections, queries, self.room).flatten(2)
        kv_heads, size = self.codec.shapes[self.index]
        keys = self.room[: kv_heads * tokens.numel() * size].view(kv_heads, -1, CHUNK, size)
        self.codec.keys(self.index, sections, keys)
        turned = self.layer.rope.rotate(keys.flatten(0, 2), self._distance(tokens).flatten())
        return queries @ turned.view(kv_heads, -1, size).transpose(1, 2)

    def turned(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """`queries` [KV heads, n, size] for keys rotated as those of `tokens` [m] were; in a re-indexed layer rotated
        the other way by what the keys are not, for each of them: [KV heads, m, n, size]."""
        if not self.layer.reindexed:
            return queries
        distance = self._distance(tokens)
        many = queries[:, None].expand(-1, tokens.numel(), -1, -1)
        turned = self.layer.rope.rotate(many.flatten(0, 2), -distance.flatten().repeat_interleave(queries.shape[1]))
        return turned.view(many.shape)

    def _distance(self, tokens: Tensor) -> Tensor:
        """From where the keys of `tokens` were rotated to where they stand or would stand, [KV heads, m]."""
        layer = self.layer
        heads = torch.arange(layer.shape.kv_heads, device=layer.device)[:, None].expand(-1, tokens.numel())
        places = layer.position_of(heads.flatten(), tokens.repeat(heads.shape[0]).to(layer.device))
        return places.view(heads.shape).to("cpu") - self.homes[tokens]
