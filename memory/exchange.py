"""Stored tokens take the places of resident ones: only the difference between what was and what is chosen moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.block import CHUNK
from memory.cache import WorkingSetLayer
from memory.codec import RowCodec


@dataclass(frozen=True, slots=True)
class Candidates:
    """Stored rows of a layer: their numbers `rows` [m] int64, ascending, and where their sections lie: those of `rows`
    are `sections` [n, bytes] uint8 at `at` [m] int64."""

    rows: Tensor
    sections: Tensor
    at: Tensor

    @property
    def tokens(self) -> Tensor:
        """Every token of the rows, ascending, [m x 64] int64."""
        return (self.rows[:, None] * CHUNK + torch.arange(CHUNK)).flatten()

    def part(self, first: int, count: int, used: int) -> Tensor:
        """The first `used` bytes of `count` sections from the one of row `rows[first]` on; a view where they follow
        each other."""
        at = self.at[first : first + count]
        start, stop = int(at[0]), int(at[-1]) + 1
        if stop - start == at.numel() and torch.equal(at, torch.arange(start, stop)):
            return self.sections[start:stop, :used]
        return self.sections[:, :used].index_select(0, at)


@dataclass(frozen=True, slots=True)
class Slots:
    """Entries `first` to `stop` of layer `index`, which may hold any of the first `rows` stored rows' tokens."""

    layer: WorkingSetLayer
    index: int
    first: int
    stop: int
    rows: int


@dataclass(frozen=True, slots=True)
class Move:
    """Tokens [n] that come, and the head and entry [2, n] that each takes; int64."""

    tokens: Tensor
    places: Tensor


def exchange(slots: Slots, chosen: Tensor, found: Candidates, homes: Tensor, codec: RowCodec) -> float:
    """Let the entries leave that are not `chosen` [KV heads, n] int64, and those come that are and are not resident.

    `found` holds every chosen token that may have to come, `homes` [tokens] int64 the position at which each token's
    key was first rotated. Returns the entries per head that came, a mean over the heads.
    """
    move = difference(slots, chosen)
    put(slots, move, found, homes, codec)
    return move.tokens.numel() / chosen.shape[0]


def difference(slots: Slots, chosen: Tensor) -> Move:
    """What has to move for `chosen` [KV heads, n] int64 to be resident; of those that leave, the first ones do."""
    heads, span = chosen.shape[0], slots.rows * CHUNK
    lines = span * torch.arange(heads)[:, None]
    held = (slots.layer.origins()[:, slots.first : slots.stop].to("cpu", torch.int64) + lines).flatten()
    wanted = (chosen + lines).flatten()
    marks = torch.zeros(heads * span, dtype=torch.bool).index_fill_(0, wanted, True)
    leaving = marks.index_select(0, held).logical_not_().nonzero()[:, 0]
    marks.index_fill_(0, held, False)
    entering = wanted[marks.index_select(0, wanted)]
    slots_each = slots.stop - slots.first
    at = entering.div(span, rounding_mode="floor")
    leaving = _paired(leaving, leaving.div(slots_each, rounding_mode="floor"), at, heads)
    return Move(entering - at * span, torch.stack((at, leaving - at * slots_each + slots.first)))


def put(slots: Slots, move: Move, found: Candidates, homes: Tensor, codec: RowCodec) -> None:
    """Bring the tokens of `move`, all of which lie in `found`, to their places; `homes` [tokens] as in `exchange`."""
    tokens, places, layer = move.tokens, move.places, slots.layer
    if not tokens.numel():
        return
    at = found.at[torch.searchsorted(found.rows, tokens // CHUNK)]
    keys, values = codec.tokens(slots.index, found.sections, torch.stack((at, places[0], tokens % CHUNK)))
    layer.exchange(*(part.to(layer.device) for part in (places, tokens, homes[tokens], keys, values)))


def _paired(leaving: Tensor, owners: Tensor, needing: Tensor, heads: int) -> Tensor:
    """As many of each head's leaving entries, whose heads are `owners`, as come to it; all are sorted by head."""
    if leaving.shape[0] == needing.shape[0]:
        return leaving
    needed = torch.bincount(needing, minlength=heads)
    return torch.cat([leaving[owners == head][: int(needed[head])] for head in range(heads)])
