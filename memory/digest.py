"""Digests: a few numbers that stand for stored rows: to choose those worth looking at, and in place of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memory.aside import DIGESTED, PARTS
from memory.block import CHUNK
from memory.scoring import Scoring
from memory.spill import Spill, Stored

_ROUNDING = 2.0**-9
"""More than fp16 takes off a number, of what it is."""

_REACH = 1 / 8
"""How far, of the range of a chunk's keys, a digest stands off the mean towards the query. Measured: the shortlist
misses a third less attention than by the mean alone, where the whole range (Quest) misses more."""


class Digests:
    """What stands for stored rows: the mean and the range of their keys and their mean value, fp16 [digests, 3,
    KV heads, size] a layer.

    A digest stands for `per` rows: one, and twice as many whenever there would be more than `DIGESTED`.
    """

    def __init__(self, spill: Spill, layers: Sequence[int]) -> None:
        """Room for the digests of `layers`."""
        self._spill = spill
        shapes = {layer: (DIGESTED, PARTS, *spill.codec.shapes[layer]) for layer in layers}
        self._parts = {layer: torch.empty(shape, dtype=torch.float16) for layer, shape in shapes.items()}
        self.rows = 0
        self.per = 1

    def extend(self, stored: Stored, rows: int) -> None:
        """Know the first `rows` rows; those that are new are read from the tiers.

        Raises:
            RowDamaged: a row is not what was written.
        """
        spill = self._spill
        while rows > DIGESTED * self.per:
            self._coarsen()
        for first in range(self.rows, rows, spill.rows_per_half):
            count = min(spill.rows_per_half, rows - first)
            self._take(first, spill.call(spill.load_to_keep, stored, first, count))
            self.rows = first + count

    def cut(self, rows: int) -> None:
        """Only the first `rows` rows belong to the conversation now."""
        self.rows = min(self.rows, rows // self.per * self.per)

    def shortlist(self, scoring: Scoring, queries: Tensor, scale: float, rows: int, count: int) -> Tensor:
        """Of the first `rows` rows about `count` that `queries` [KV heads, n, size] may attend to most, ascending."""
        if count >= rows:
            return torch.arange(rows)
        used = self._parts[scoring.index][: -(-rows // self.per)].to(torch.float32)
        mean, reach = used[:, :2].permute(1, 2, 0, 3)
        mean = scoring.means(mean, torch.arange(CHUNK // 2, rows * CHUNK, self.per * CHUNK))
        logits = (queries @ mean.transpose(1, 2) + queries.abs() @ reach.transpose(1, 2)).mul_(scale)
        weights: Tensor = logits.softmax(-1).sum((0, 1))
        best = weights.topk(max(1, count // self.per), sorted=False).indices.sort().values
        named = (best[:, None] * self.per + torch.arange(self.per)).flatten()
        return named[named < rows]

    def means(self, scoring: Scoring, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean keys, turned to where they stand, and mean values of `rows` [m]: fp32 [KV heads, m, size] each."""
        used = self._parts[scoring.index][rows // self.per].to(torch.float32)
        return scoring.means(used[:, 0].transpose(0, 1), rows * CHUNK + CHUNK // 2), used[:, 2].transpose(0, 1)

    def ceiling(self, layer: int, queries: Tensor, rows: int) -> Tensor:
        """What no key of the first `rows` rows exceeds in a product with `queries` [KV heads, n, size]: [KV heads, n,
        digests] (Quest's bound, from the mean and the range). Digests stand for `per` rows each."""
        used = self._parts[layer][: -(-rows // self.per)].to(torch.float32)
        mean, reach = used[:, :2].permute(1, 2, 3, 0)
        widest = reach * ((1 + _ROUNDING) / _REACH) + mean.abs() * _ROUNDING
        ceiling: Tensor = queries @ mean + queries.abs() @ widest
        return ceiling

    def _take(self, first: int, rows: Tensor) -> None:
        """Encoded rows [n, stride] from row `first` on."""
        for layer, part in self._parts.items():
            start = self._spill.layout.offsets[layer]
            sections = rows[:, start : start + self._spill.codec.sections[layer]]
            low, high, mean = self._spill.codec.digest(layer, sections)
            values = self._spill.codec.mean_values(layer, sections).to(torch.float16)
            fresh = torch.stack((mean, (high - low) * _REACH, values), dim=1)
            for number in range(first, first + rows.shape[0]):
                _merge(part[number // self.per], fresh[number - first], number % self.per)

    def _coarsen(self) -> None:
        """Two neighbours become one, which reaches as far as both do."""
        for part in self._parts.values():
            pairs = part.view(DIGESTED // 2, 2, *part.shape[1:]).to(torch.float32)
            mean, values = pairs[:, :, 0].mean(1), pairs[:, :, 2].mean(1)
            reach = pairs[:, :, 1] + (pairs[:, :, 0] - mean[:, None]).abs() * _REACH
            part[: DIGESTED // 2] = torch.stack((mean, reach.amax(1), values), dim=1)
        self.per *= 2
        self.rows = self.rows // self.per * self.per


def _merge(digest: Tensor, fresh: Tensor, before: int) -> None:
    """Take one row more into a digest of `before` rows: the mean of means, and a range that covers all."""
    if not before:
        digest.copy_(fresh)
        return
    old, new = digest.to(torch.float32), fresh.to(torch.float32)
    mean = old[0] + (new[0] - old[0]) / (before + 1)
    digest[0], digest[2] = mean, old[2] + (new[2] - old[2]) / (before + 1)
    digest[1] = torch.maximum(*(one[1] + (one[0] - mean).abs() * _REACH for one in (old, new)))
