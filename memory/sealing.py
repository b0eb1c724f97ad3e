"""The active conversation outside the working set: sealing what was read, and exact attention to what left.

A chunk is sealed as soon as its 64 tokens are read, before anything can evict them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from memory.block import CHUNK
from memory.cache import WorkingSet
from memory.exact import Beside, Costs, StoredAttention, Stream, Way
from memory.restore import first_and_last, first_rows, missing_rows, pack_state
from memory.spill import GROUP, RawRow, Scratch, Spill, Stored
from memory.tailfile import Tail

BEARABLE = 4.0
"""Exact decoding is chosen by itself while it takes at most this many times a step over the working set alone."""


@dataclass(slots=True)
class Trail:
    """One conversation: every token read, what is stored of it, and which rows are not resident.

    `missing` is None when a policy chose what stays. `exact`: every token was read with attention to all before it.
    """

    conversation: str = ""
    tokens: list[int] = field(default_factory=list)
    stored: Stored = field(default_factory=lambda: Stored(""))
    missing: range | None = range(0)
    exact: bool = True


class Sealer:
    """Follows the active conversation (`trail`) as it is read; `memory.prefill.Outside`."""

    def __init__(self, working_set: WorkingSet, spill: Spill | None) -> None:
        """`spill` None: nothing is stored, what leaves the working set has to be read again."""
        self.trail = Trail()
        self.first = 0
        self.wanted = False
        self.costs = Costs()
        self.scratch = Scratch(_room(working_set))
        self._cache = working_set
        self._spill = spill
        self._pass: StoredAttention | None = None
        self._began = 0.0
        self._step_s: float | None = None

    @property
    def bearable(self) -> bool:
        """Whether a step in exact mode would take at most `BEARABLE` times one without, as far as measured."""
        row_s, rows = self.costs.expected(single=True), self._missing_after_sliding()
        return row_s is None or self._step_s is None or rows * row_s <= (BEARABLE - 1) * self._step_s

    # --- what the reader asks ----------------------------------------------------------------------------------------

    def begin(self, tokens: int) -> StoredAttention | None:
        """Exact attention to the rows that are not resident, when it is wanted and possible."""
        self._began, self._pass = time.perf_counter(), None
        if self.wanted and self._spill is not None and self.trail.missing:
            layers = [index for index, layer in enumerate(self._cache.layers) if not layer.is_sliding]
            ways = self._ways(self._spill)
            self._pass = StoredAttention(ways, self.costs, layers, self.trail.missing, single=tokens == 1)
        return self._pass

    def took(self, ids: Sequence[int]) -> None:
        """Note the tokens and seal the chunks that they complete."""
        if self._pass is None and not self._cache.complete:
            self.trail.exact = False
        if self._pass is None and len(ids) == 1:
            seconds = time.perf_counter() - self._began
            self._step_s = seconds if self._step_s is None else 0.9 * self._step_s + 0.1 * seconds
        self.trail.tokens += ids
        self._seal()

    def slide(self) -> bool:
        """Let stored rows in the middle leave, the first and the latest stay; False where that cannot be."""
        if not self.wanted or self._spill is None or self.trail.missing is None or self._cache.reindexed:
            return False
        keep = self._cache.working_set_size(reindexed=False)
        kept = first_and_last(self._cache.seen, self.trail.missing or range(first_rows(self.first, keep), 0), keep)
        missing = missing_rows(kept, self._cache.seen)
        if missing is None or not self._written(missing.stop):
            return False
        for layer in self._cache.bounded:
            entries = torch.searchsorted(layer.origins()[0].cpu(), kept[0])
            layer.keep(entries.to(layer.device).expand(layer.shape.kv_heads, -1))
        self.trail.missing = missing
        return True

    def chosen(self) -> None:
        """From now on what is missing differs from head to head."""
        self.trail.missing = None

    # --- the end of a turn -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Store the open chunk, lossless, and what is resident."""
        spill, trail = self._spill, self.trail
        if spill is None or not trail.tokens or trail.stored.failed or not spill.writing:
            return
        row = self._row(trail.stored.handed, len(trail.tokens) - trail.stored.handed * CHUNK)
        if row is None:
            return
        state = pack_state(self._cache.state(), [layer.is_sliding for layer in self._cache.layers])
        spill.put_tail(trail.stored, lambda branch: _tail(spill, branch, row, state))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        spill, trail = self._spill, self.trail
        if spill is None:
            return
        if not spill.writing:
            return
        spill.retry(trail.stored)
        while not trail.stored.failed and (trail.stored.handed + 1) * CHUNK <= len(trail.tokens):
            row = self._row(trail.stored.handed, CHUNK)
            if row is None:
                return
            spill.seal(trail.stored, row)

    def _row(self, number: int, count: int) -> RawRow | None:
        """A copy of `count` tokens of every layer, padded to a whole chunk; None when they are no longer resident."""
        first, numbers, positions = number * CHUNK, list[tuple[Tensor, Tensor]](), list[int]()
        for layer in self._cache.layers:
            found = layer.newest(first, count)
            if found is None:
                return None
            keys, values, homes = found
            numbers.append((_whole(keys), _whole(values)))
            positions = positions or homes.tolist()
        ids = tuple(self.trail.tokens[first : first + count])
        return RawRow(number, ids, tuple(positions), self.trail.exact, numbers)

    def _written(self, rows: int) -> bool:
        assert self._spill is not None
        if self.trail.stored.rows < rows:
            self._spill.flush()
        return self.trail.stored.rows >= rows

    def _missing_after_sliding(self) -> int:
        keep = self._cache.working_set_size(reindexed=False)
        return max(len(self.trail.missing or ()), (self._cache.seen - keep) // CHUNK)

    def _ways(self, spill: Spill) -> dict[str, Way]:
        ways: dict[str, Way] = {"stream": Stream(spill, self.trail.stored, self.scratch)}
        if spill.ram.capacity:
            beside = self.scratch if self.scratch.numbers.device.type == "cpu" else Scratch(_room(self._cache, "cpu"))
            ways["beside"] = Beside(spill, self.trail.stored, beside)
        return ways


def _room(cache: WorkingSet, device: str | None = None) -> Tensor:
    """Room for the keys and values of one group of rows of the widest layer; fp32 on the CPU."""
    widest = max(layer.shape.kv_heads * layer.shape.head_dim for layer in cache.layers)
    arena = cache.layers[0].pool.arena
    dtype = torch.float32 if device == "cpu" else arena.dtype
    return torch.empty(2 * GROUP * CHUNK * widest, dtype=dtype, device=device or arena.device)


def _whole(part: Tensor) -> Tensor:
    """A copy on the CPU of [KV heads, count, size], its last entry repeated up to 64."""
    count = part.shape[1]
    whole = torch.empty((part.shape[0], CHUNK, part.shape[2]), dtype=part.dtype)
    whole[:, :count] = part
    if count < CHUNK:
        whole[:, count:] = part[:, -1:].cpu() if count else 0
    return whole


def _tail(spill: Spill, branch: str, row: RawRow, state: bytes) -> Tail:
    sections = [bytes(spill.lossless.encode(layer, *pair).numpy().data) for layer, pair in enumerate(row.numbers)]
    return Tail(
        fingerprint=spill.disk.fingerprint.digest,
        branch=branch,
        rows=row.number,
        ids=row.ids,
        positions=row.positions,
        exact=row.exact,
        state=state,
        payload=b"".join(sections),
    )
