"""Exact attention to stored rows that are not resident: streamed through staging, or computed beside them in RAM.

Partial results are merged by log-sum-exp (DistAttention, section 4). The way is chosen by measured cost.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from memory.aside import ROW_GROUP
from memory.attention import Partial, merge, partial_attention
from memory.spill import Scratch, Spill, Stored

AGAIN = 256
"""Passes after which the way that was not chosen is measured once more."""


def groups_of(rows: range) -> list[range]:
    """`rows` in pieces of at most `ROW_GROUP`, cut at the same places whatever the range."""
    cuts = sorted({rows.start, rows.stop, *range(-(-rows.start // ROW_GROUP) * ROW_GROUP, rows.stop, ROW_GROUP)})
    return [range(first, stop) for first, stop in pairwise(cuts)]


class Way(ABC):
    """How the rows of a group get their attention."""

    def __init__(self, spill: Spill, stored: Stored, scratch: Scratch) -> None:
        self.spill = spill
        self.stored = stored
        self.scratch = scratch

    def begin(self, layers: Sequence[int], groups: Sequence[range]) -> None:  # noqa: B027 - most ways need nothing
        """A pass of the model starts; it will ask for every group of each layer, in this order."""

    @abstractmethod
    def attend(self, layer: int, group: range, query: Tensor, scale: float) -> Partial:
        """`query` [1, KV heads, rows, size] over the rows of `group`; fp32 on the query's device.

        Raises:
            RowDamaged: a row on disk is not what was written.
        """

    def _over(self, layer: int, sections: Tensor, query: Tensor, scale: float) -> Partial:
        """Decode sections [rows, bytes] and attend to them, where the scratch lies."""
        kv_heads, size = self.spill.codec.shapes[layer]
        keys, values = self.scratch.views(kv_heads, sections.shape[0], size)
        self.spill.codec.decode(layer, sections, keys, values)
        flat = keys.view(1, kv_heads, -1, size), values.view(1, kv_heads, -1, size)
        out, lse = partial_attention(query, *flat, scale)
        return out.to(torch.float32), lse


class Stream(Way):
    """Sections come through the staging area, one group ahead of the attention."""

    def begin(self, layers: Sequence[int], groups: Sequence[range]) -> None:
        """Ask for the first group at once."""
        self._order = iter([(layer, group) for layer in layers for group in groups])
        self._half = 0
        self._ahead: Future[Tensor] | None = None
        self._ask()

    def attend(self, layer: int, group: range, query: Tensor, scale: float) -> Partial:
        """Take the group that was asked for, ask for the next, attend; shapes as in `Way.attend`."""
        assert self._ahead is not None
        sections = self._ahead.result()
        self._ask()
        self.spill.counters["rows_streamed"] += len(group)
        return self._over(layer, sections.to(query.device, non_blocking=True), query, scale)

    def _ask(self) -> None:
        following = next(self._order, None)
        if following is not None:
            layer, group = following
            arguments = self.stored, layer, group.start, len(group), self._half
            self._ahead = self.spill.submit(self.spill.load_sections, *arguments)
            self._half ^= 1


class Beside(Way):
    """Attention on the CPU, over rows that lie in RAM; only the result and its log-sum-exp travel."""

    def attend(self, layer: int, group: range, query: Tensor, scale: float) -> Partial:
        """Gather, decode and attend on this thread; what is not in RAM is loaded. Shapes as in `Way.attend`."""
        out, lse = self._over(layer, self._sections(layer, group), query.to("cpu", self.scratch.numbers.dtype), scale)
        self.spill.counters["rows_beside"] += len(group)
        return out.to(query.device), lse.to(query.device)

    def _sections(self, layer: int, group: range) -> Tensor:
        spill, stored = self.spill, self.stored
        assert stored.branch is not None
        into = spill.staging.halves[0][: len(group) * spill.codec.sections[layer]].view(len(group), -1)
        chains = [stored.branch.headers[number].chain for number in group]
        if spill.ram.capacity and spill.ram.gather(
            stored.conversation, group.start, chains, into, spill.layout.offsets[layer]
        ):
            return into
        return spill.call(spill.load_sections, stored, layer, group.start, len(group), 0)


@dataclass(slots=True)
class Costs:
    """Measured seconds per row and pass, by the way's name and whether the pass was of a single token."""

    seconds: dict[tuple[str, bool], float] = field(default_factory=dict)
    passes: int = 0

    def choose(self, names: Sequence[str], *, single: bool) -> tuple[str, bool]:
        """The cheapest way, and whether to measure: first and now and then again each of the others."""
        self.passes += 1
        unknown = [name for name in names if (name, single) not in self.seconds]
        if unknown:
            return unknown[0], True
        ranked = sorted(names, key=lambda name: self.seconds[name, single])
        again = self.passes % AGAIN == 0
        return (ranked[-1] if again else ranked[0]), again

    def note(self, name: str, seconds: float, *, single: bool) -> None:
        """Remember what a pass took, smoothed."""
        before = self.seconds.get((name, single), seconds)
        self.seconds[name, single] = 0.7 * before + 0.3 * seconds

    def expected(self, *, single: bool) -> float | None:
        """Seconds per row of the cheapest way, None before the first pass."""
        known = [cost for (_, kind), cost in self.seconds.items() if kind == single]
        return min(known, default=None)


class StoredAttention:
    """What `memory.attention` asks for the part that is stored but not resident; one object per pass of the model."""

    def __init__(
        self, ways: dict[str, Way], costs: Costs, fronts: Mapping[int, int], rows: int, *, single: bool
    ) -> None:
        """The first `rows` rows are attended to; `fronts`: per layer, the entries at the front that lie in them."""
        self._costs = costs
        self._fronts = fronts
        self._groups = groups_of(range(rows))
        self._rows = rows
        self._single = single
        self._name, self._measured = costs.choose(list(ways), single=single)
        self._way = ways[self._name]
        self._seconds = 0.0
        self._way.begin(list(fronts), self._groups)

    def look(self, layer: int, query: Tensor, scale: float) -> int:  # noqa: ARG002 - nothing is chosen
        """Everything before the tail is attended to where it is stored, whatever `query` [1, query heads, tokens, size]
        is."""
        return self._fronts[layer]

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """`query` [1, KV heads, rows, size] over every stored row of this pass; fp32.

        Raises:
            RowDamaged: a row on disk is not what was written.
        """
        started = time.perf_counter()
        result: Partial | None = None
        for group in self._groups:
            part = self._way.attend(layer, group, query, scale)
            result = part if result is None else merge(result, part)
        assert result is not None
        if self._measured and query.device.type == "cuda":
            torch.cuda.synchronize()
        self._seconds += time.perf_counter() - started
        return result

    def rest(self, layer: int, query: Tensor, scale: float) -> None:
        """Nothing stands in for anything, whatever `query` [1, KV heads, group, size] is."""

    def finish(self) -> None:
        """The pass is over: note what it took."""
        if self._measured:
            self._costs.note(self._name, self._seconds / self._rows, single=self._single)
