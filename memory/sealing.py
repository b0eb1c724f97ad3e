"""The active conversation outside the working set: sealing what was read, and exact attention to what left.

A chunk is sealed as soon as its 64 tokens are read, before anything can evict them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from memory.aside import ROW_GROUP
from memory.block import CHUNK
from memory.cache import WorkingSet, WorkingSetLayer
from memory.exact import Beside, Costs, StoredAttention, Stream, Way
from memory.policy import Policy
from memory.recall import Reach, Recaller, RecallPass
from memory.restore import pack_state
from memory.spill import RawRow, Scratch, Spill, Stored
from memory.tailfile import Tail

BEARABLE = 4.0
"""Exact attention is chosen by itself while a pass takes at most this many times one over the working set alone."""

_LEAST = ("exact", "recall", "bounded")


@dataclass(slots=True)
class Trail:
    """One conversation: the ids of all `tokens` read, and what is stored of them. `exact`: every one was read with
    attention to all before it."""

    conversation: str = ""
    tokens: list[int] = field(default_factory=list)
    stored: Stored = field(default_factory=lambda: Stored(""))
    exact: bool = True
    recaller: Recaller | None = None
    focused: bool = False
    """Whether a patch chose what stands between the first and the recent tokens."""
    kept: dict[int, Tensor] = field(default_factory=dict)
    """What recall leaves alone, by layer: tokens [KV heads, n] that a patch chose, the best first."""


Served = Literal["exact", "recall", "bounded"]
"""What tokens attended to: everything read before, what was recalled for them, or what a policy kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for: exact attention for the blocks of its prompt, and for the tokens of the reply."""

    blocks: bool = False
    steps: bool = False


class Sealer:
    """Follows the active conversation (`trail`) as it is read; `memory.prefill.Outside`.

    What lies before the edge, in whole rows, is stored and may be resident or not; the tail after it is resident.
    """

    def __init__(
        self, working_set: WorkingSet, spill: Spill | None, policy: Policy, ends: frozenset[int] = frozenset()
    ) -> None:
        """`spill` None: nothing is stored, what leaves the working set has to be read again; `ends`: of sentences."""
        self.trail = Trail()
        self.first = 0
        self.recent = 0
        self.wanted = Wanted()
        self.costs = Costs()
        self.scratch = Scratch(_room(working_set))
        self._cache = working_set
        self._spill = spill
        self._policy = policy
        self._ends = ends
        self.served: Served = "exact"
        self._pass: Served = "exact"
        self._began = 0.0
        self._seconds: dict[bool, float] = {}
        """Of a pass over the working set: a single token, and a whole block."""

    @property
    def edge(self) -> int:
        """Rows before the tail; 0 while everything is resident."""
        return 0 if self._cache.complete else -(-(self._cache.seen - self._cache.run) // CHUNK)

    @property
    def recalls(self) -> bool:
        """Whether the policy chooses for the current queries."""
        return self._policy.queries == "current"

    @property
    def fills(self) -> bool:
        """Whether the policy fills the slots before the recent tokens from what is stored."""
        return self._spill is not None and (self.recalls or self._policy.base != "latest")

    @property
    def reachable(self) -> bool:
        """Whether everything before the edge is stored."""
        return self._written(self.edge)

    def bearable(self, *, single: bool) -> bool:
        """Whether exact attention makes a pass at most `BEARABLE` times as long as one without, as far as measured."""
        row_s, alone = self.costs.expected(single=single), self._seconds.get(single)
        return row_s is None or alone is None or self._rows_after_sliding() * row_s <= (BEARABLE - 1) * alone

    def start(self, wanted: Wanted) -> None:
        """A request begins."""
        self.wanted, self.served = wanted, "exact"
        if self.trail.recaller is not None:
            self.trail.recaller.restart()

    # --- what the reader asks ----------------------------------------------------------------------------------------

    def begin(self, tokens: int) -> StoredAttention | RecallPass | None:
        """Exact attention to what is stored before the edge, or recall of it, where wanted and possible.

        Raises:
            RowDamaged: recall needs a row that is not what was written.
        """
        edge = self.edge
        wanted = self.wanted.blocks if tokens > 1 else self.wanted.steps
        self._began, self._pass = time.perf_counter(), "exact" if not edge else "bounded"
        if not edge or not self._written(edge):
            return None
        if wanted and not self._cache.reindexed:
            self._pass = "exact"
            return self._exact(edge, tokens)
        if not self.recalls:
            return None
        self._pass = "recall"
        return self._recall()

    def latest(self, count: int) -> list[int]:
        """The last `count` tokens that were read."""
        return self.trail.tokens[-count:]

    def took(self, ids: Sequence[int]) -> None:
        """Note the tokens and seal the chunks that they complete."""
        self.served = max(self.served, self._pass, key=_LEAST.index)
        self.trail.exact = self.trail.exact and self._pass == "exact"
        single = len(ids) == 1
        if (single or len(ids) == self._cache.plan.block) and (self._pass != "exact" or not self.edge):
            seconds = time.perf_counter() - self._began
            self._seconds[single] = 0.9 * self._seconds.get(single, seconds) + 0.1 * seconds
        self.trail.tokens += ids
        self._seal()

    def slide(self, *, reindexed: bool) -> bool:
        """Move the edge so that a block fits after the tail; False: the policy has to choose among what is resident.

        Before the edge, the first tokens and what was recalled stay, or where nothing was the latest.
        """
        if not self._follows(reindexed=reindexed):
            return False
        cache = self._cache
        start = self._next_edge(cache.working_set_size(reindexed=reindexed))
        if not self._written(start // CHUNK):
            return False
        for layer, keep in zip(cache.bounded, cache.working_set_sizes(reindexed=reindexed), strict=True):
            if layer.length > keep:
                layer.keep(_kept(layer, start, keep, self.first, latest=not self._chosen(layer)))
        return True

    def open_slots(self) -> int:
        """Let everything but the recent tokens be exchanged, wherever the tail began until now.

        The stored rows before the recent tokens, for whose tokens it may be.
        """
        seen = self._cache.seen
        rows = max(self.edge, min((seen - self.recent) // CHUNK, self.trail.stored.rows))
        self._cache.shorten_run(seen - rows * CHUNK)
        return rows

    # --- the end of a turn -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Store the open chunk, lossless, and what is resident."""
        spill, trail = self._spill, self.trail
        if spill is None or not trail.tokens or trail.stored.failed or not spill.writing:
            return
        row = self._row(trail.stored.handed, len(trail.tokens) - trail.stored.handed * CHUNK)
        if row is None:
            return
        self._cache.sort()
        state = pack_state(self._cache.state(), [layer.is_sliding for layer in self._cache.layers])
        spill.put_tail(trail.stored, lambda branch: _tail(spill, branch, row, state))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        spill, trail = self._spill, self.trail
        if spill is None or not spill.writing:
            return
        spill.retry(trail.stored)
        while not trail.stored.failed and (trail.stored.handed + 1) * CHUNK <= len(trail.tokens):
            row = self._row(trail.stored.handed, CHUNK)
            if row is None:
                return
            spill.seal(trail.stored, row)

    def _row(self, number: int, count: int) -> RawRow | None:
        """A copy of `count` tokens of every layer, padded to a whole chunk; None when they are no longer resident in
        every layer, or are more than a chunk because those before them were not."""
        if count > CHUNK:
            return None
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
        if self._spill is None:
            return False
        if self.trail.stored.rows < rows:
            self._spill.flush()
        return self.trail.stored.rows >= rows

    def _chosen(self, layer: WorkingSetLayer) -> bool:
        """Whether what stands before the tail was chosen."""
        return self.trail.focused if not self.recalls else layer.run < layer.length

    def _follows(self, *, reindexed: bool) -> bool:
        """Whether what leaves is attended to or chosen from where it is stored."""
        exactly = self.wanted.steps or (self.wanted.blocks and not self.fills)
        return self._spill is not None and (self.fills or (exactly and not reindexed))

    def _next_edge(self, keep: int) -> int:
        """Token at which the tail shall begin, `keep` entries being what every layer has room for: where slots are
        filled just the recent ones stay, else all that can."""
        seen, room = self._cache.seen, keep - self.first
        if not self.fills or self.wanted.steps:
            return -(-(seen - room) // CHUNK) * CHUNK
        return (seen - max(0, min(self.recent, room - CHUNK + 1))) // CHUNK * CHUNK

    def _exact(self, edge: int, tokens: int) -> StoredAttention:
        assert self._spill is not None
        tail = self._cache.seen - edge * CHUNK
        fronts = {at: layer.length - tail for at, layer in enumerate(self._cache.layers) if not layer.is_sliding}
        return StoredAttention(self._ways(self._spill), self.costs, fronts, edge, single=tokens == 1)

    def _recall(self) -> RecallPass:
        """A pass with recall."""
        assert self._spill is not None
        trail = self.trail
        if trail.recaller is None:
            layers = [at for at, layer in enumerate(self._cache.layers) if not layer.is_sliding]
            step_bytes = self._cache.plan.weights + self._cache.plan.kv
            trail.recaller = Recaller(self._spill, self._policy, layers, step_bytes, self._ends)
        trail.recaller.kept = trail.kept
        reach = Reach(trail.stored, self.open_slots(), self.first)
        return trail.recaller.begin(reach, trail.tokens, self._cache.layers)

    def _rows_after_sliding(self) -> int:
        keep = self._cache.working_set_size(reindexed=False)
        return max(self.edge, self._next_edge(keep) // CHUNK)

    def _ways(self, spill: Spill) -> dict[str, Way]:
        ways: dict[str, Way] = {"stream": Stream(spill, self.trail.stored, self.scratch)}
        if spill.ram.capacity:
            beside = self.scratch if self.scratch.numbers.device.type == "cpu" else Scratch(_room(self._cache, "cpu"))
            ways["beside"] = Beside(spill, self.trail.stored, beside)
        return ways


def _kept(layer: WorkingSetLayer, start: int, keep: int, first: int, *, latest: bool) -> Tensor:
    """`keep` entries [KV heads, keep]: the tail from token `start` on, the first tokens, and before `start` the latest
    or, where those were chosen, the ones that stand earliest."""
    origins = layer.origins().to(torch.int64)
    rank = torch.arange(layer.length, device=origins.device).expand_as(origins)
    if not latest:
        rank = layer.length - rank
    rank = rank.masked_fill((origins < first) | (origins >= start), layer.length + 1)
    return rank.topk(keep, dim=1, sorted=False).indices.sort(dim=1).values


def _room(cache: WorkingSet, device: str | None = None) -> Tensor:
    """Room for the keys and values of one group of rows of the widest layer; fp32 on the CPU."""
    widest = max(layer.shape.kv_heads * layer.shape.head_dim for layer in cache.layers)
    arena = cache.layers[0].pool.arena
    dtype = torch.float32 if device == "cpu" else arena.dtype
    return torch.empty(2 * ROW_GROUP * CHUNK * widest, dtype=dtype, device=device or arena.device)


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
