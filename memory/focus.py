"""What a turn begins with: of all that is stored, the tokens that a patch attends to most (docs/memory.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memory.block import CHUNK
from memory.exchange import Candidates, Move, Slots, difference, put
from memory.geometry import Geometry
from memory.prefill import Reader
from memory.sealing import Sealer
from memory.selection import StoredScores
from memory.spill import Spill, Stored


class Focus:
    """Fills the slots between the first and the recent tokens of the active conversation from what is stored."""

    def __init__(self, spill: Spill, geometry: Geometry, reader: Reader, sealer: Sealer) -> None:
        self.scores = StoredScores(spill, geometry, reader.working_set.layers[0].device)
        self._spill, self._reader, self._sealer = spill, reader, sealer

    def prepare(self, patch: Sequence[int], stop: Callable[[], bool]) -> bool:
        """Score what is stored of the active conversation and has no score yet; whether that is done.

        `stop` is asked now and then: what was scored until then is lost when it says so.
        """
        stored = self._sealer.trail.stored
        self._spill.flush()
        if not self._possible() or not patch:
            return True
        asked = patch, self._reader.ask, self._reader.working_set.plan.patch
        return not any(stop() for _ in self.scores.update(stored, stored.rows, *asked))

    def turn_to(self, patch: Sequence[int]) -> int:
        """Make the stored tokens resident that `patch` attends to most, without one the latest; entries that came.

        Raises:
            RowDamaged: a row is not what was written.
        """
        if not self._possible():
            return 0
        cache, trail = self._reader.working_set, self._sealer.trail
        self._reader.make_room(cache.plan.block)
        self._spill.flush()
        if not self._sealer.reachable:
            return 0
        scores = self._scored(patch) if patch else None
        rows = self._sealer.open_slots()
        homes = _homes(trail.stored, rows)
        came, heads = 0, 0
        for at, index in enumerate(self.scores.layers):
            layer, tail = cache.layers[index], cache.seen - rows * CHUNK
            slots = Slots(layer, index, self._sealer.first, layer.length - tail, rows)
            chosen = _latest(slots) if scores is None else _best(scores[at], slots)
            if chosen is not None:
                came += self._move(slots, chosen, homes)
                heads += chosen.shape[0]
                self._keep(index, chosen if patch else chosen[:, :0])
        cache.sort()
        trail.focused = bool(patch)
        return round(came / heads) if heads else 0

    # --- parts -------------------------------------------------------------------------------------------------------

    def _keep(self, index: int, chosen: Tensor) -> None:
        """Note which of the tokens [KV heads, n], best first, a policy that goes on choosing leaves alone."""
        policy = self._reader.policy
        if policy.queries == "current":
            self._sealer.trail.kept[index] = chosen[:, : int(policy.share * chosen.shape[1])].contiguous()

    def _possible(self) -> bool:
        """Whether anything is outside of the working set, in layers that attend to everything."""
        return bool(self.scores.layers and self._sealer.edge and self._sealer.reachable)

    def _scored(self, patch: Sequence[int]) -> list[Tensor]:
        stored = self._sealer.trail.stored
        return self.scores.of(stored, stored.rows, patch, self._reader.ask, self._reader.working_set.plan.patch)

    def _move(self, slots: Slots, chosen: Tensor, homes: Tensor) -> int:
        """Entries that came, of all heads; their rows are read in pieces that staging holds."""
        stored, spill = self._sealer.trail.stored, self._spill
        move = difference(slots, chosen)
        if not move.tokens.numel():
            return 0
        row_of = move.tokens // CHUNK
        needed = torch.unique(row_of)
        most = spill.most_rows(stored, slots.index, slots.rows)
        for rows in needed.split(most):
            here = (row_of >= rows[0]) & (row_of <= rows[-1])
            found = Candidates(rows, *spill.sections(stored, slots.index, rows.tolist()))
            put(slots, Move(move.tokens[here], move.places[:, here]), found, homes, spill.codec)
        return move.tokens.numel()


def _best(scores: Tensor, slots: Slots) -> Tensor | None:
    """The tokens of the highest `scores` [KV heads, tokens], [KV heads, slots]; None where there is no slot."""
    stop = slots.rows * CHUNK
    count = min(slots.stop, stop) - slots.first
    if count <= 0:
        return None
    return scores[:, slots.first : stop].to(torch.float32).topk(count).indices + slots.first


def _latest(slots: Slots) -> Tensor | None:
    """The last tokens before the recent ones, [KV heads, slots]."""
    stop = slots.rows * CHUNK
    count = min(slots.stop, stop) - slots.first
    return torch.arange(stop - count, stop).expand(slots.layer.shape.kv_heads, -1) if count > 0 else None


def _homes(stored: Stored, rows: int) -> Tensor:
    """The position at which the key of each token of the first rows was first rotated."""
    assert stored.branch is not None
    return torch.tensor([place for header in stored.branch.headers[:rows] for place in header.positions])
