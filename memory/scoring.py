"""Queries times stored keys, as they are attended to.

Inside the trained window a stored key is rotated to where it stands. In a re-indexed layer it is not: the first token
of a row is taken to stand at its place among the entries and the others behind it, and it is the query that is turned,
by as much the other way (R(a) q . R(b) k depends on b - a alone; RoFormer, section 3.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.block import CHUNK
from memory.cache import WorkingSetLayer
from memory.codec import RowCodec, split


@dataclass(frozen=True, slots=True)
class Scoring:
    """For layer `index`; `homes` [tokens] int64 is where the key of each was first rotated, `room` fp32 is written
    over."""

    codec: RowCodec
    layer: WorkingSetLayer
    index: int
    homes: Tensor
    room: Tensor

    def dots(self, queries: Tensor, sections: Tensor, rows: Tensor) -> Tensor:
        """`queries` [KV heads, n, size] times the keys of `sections`, which are those of `rows` [m]: [KV heads, n, m,
        64]."""
        if not self.layer.reindexed:
            return self.codec.dots(self.index, sections, queries, self.room)
        firsts = rows * CHUNK
        distance = self._distance(firsts)
        homes = self.homes[firsts[:, None] + torch.arange(CHUNK)]
        ahead = homes - homes[:, :1] - torch.arange(CHUNK)  # an eviction inside a row moved what was read after it back
        turns = torch.stack((distance, distance - ahead[:, -1]), dim=2)
        found = self.codec.dots(self.index, sections, self._turned(queries, -turns), self.room)
        before, after = split(found, 1, (2, -1)).unbind(1)
        return torch.where(ahead == 0, before, after)

    def means(self, means: Tensor, tokens: Tensor) -> Tensor:
        """Mean keys [KV heads, m, size] of rows about `tokens` [m], turned to where those stand."""
        if not self.layer.reindexed:
            return means
        turned = self.layer.rope.rotate(means.flatten(0, 1), self._distance(tokens).flatten())
        return turned.view(means.shape)

    def _turned(self, queries: Tensor, turns: Tensor) -> Tensor:
        """`queries` [KV heads, n, size] turned by each of `turns` [KV heads, m, k]: [KV heads, m, k x n, size]."""
        kv_heads, asked, size = queries.shape
        many = queries[:, None, None].expand(-1, *turns.shape[1:], -1, -1)
        turned = self.layer.rope.rotate(many.reshape(-1, size), turns.flatten().repeat_interleave(asked))
        return turned.view(kv_heads, turns.shape[1], -1, size)

    def _distance(self, tokens: Tensor) -> Tensor:
        """From where the keys of `tokens` were rotated to where they stand or would stand, [KV heads, m]."""
        layer = self.layer
        heads = torch.arange(layer.shape.kv_heads, device=layer.device)[:, None].expand(-1, tokens.numel())
        places = layer.position_of(heads.flatten(), tokens.repeat(heads.shape[0]).to(layer.device))
        return places.view(heads.shape).to("cpu") - self.homes[tokens]
