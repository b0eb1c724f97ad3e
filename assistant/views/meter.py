"""The memory meter: one bar over the budget whose parts add up, and whatever does not add up as a part of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.reports import MemoryReport, Outside

SHAPES = {
    "weights": "█",
    "working sets": "▓",
    "free KV": "░",
    "staging": "=",
    "activations": "+",
    "process": "~",
    "RAM tier": "#",
    "unaccounted": "?",
    "free": "·",
}
"""One for every part, so that they can be told apart without colour."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the bar; `shape` fills its cells."""

    name: str
    bytes: int

    @property
    def shape(self) -> str:
        return SHAPES.get(self.name, "%")


@dataclass(frozen=True, slots=True)
class Meter:
    """The budget, divided. The bytes of `parts` add up to `budget`, or to more where it is passed.

    `unused`: of what the parts set aside, bytes that are not in use at the moment: `measured` is smaller by them.
    """

    budget: int
    measured: int
    parts: tuple[Part, ...]
    unused: int

    @property
    def over(self) -> int:
        """Bytes beyond the budget."""
        return max(0, sum(part.bytes for part in self.parts) - self.budget)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the system says is in use: `ours`, what the budget does not cover, and what neither explains."""

    seen: int
    ours: int
    parts: tuple[Part, ...]
    gap: int
    capacity: int


def meter(report: MemoryReport) -> Meter | None:
    """The meter of the loaded model; None when none is loaded."""
    device = report.kv.device
    budget = device.limit or report.memory.budget
    if not budget or not device.parts:
        return None
    gap = device.gap
    parts = [Part(name, size) for name, size in device.parts.items() if size > 0]
    if gap > 0:
        parts.append(Part("unaccounted", gap))
    parts.append(Part("free", max(0, budget - sum(part.bytes for part in parts))))
    return Meter(budget, device.total, tuple(parts), max(0, -gap))


def surroundings(report: MemoryReport) -> Surroundings | None:
    """The process, or the GPU, as the system sees it; None where nobody has asked it."""
    outside: Outside | None = report.kv.outside
    if outside is None:
        return None
    parts = tuple(Part(name, size) for name, size in outside.parts.items())
    gap = outside.seen - report.kv.device.total - sum(outside.parts.values())
    return Surroundings(outside.seen, report.kv.device.total, parts, gap, outside.capacity)


def cells(parts: Sequence[Part], width: int) -> list[int]:
    """How many of `width` cells each part gets: together all of them, and at least one for every part that is there."""
    total = sum(part.bytes for part in parts)
    if total <= 0 or width <= 0:
        return [0] * len(parts)
    exact = [part.bytes * width / total for part in parts]
    given = [max(int(share), int(part.bytes > 0)) for share, part in zip(exact, parts, strict=True)]
    order = sorted(range(len(parts)), key=lambda at: given[at] - exact[at])
    for turn in range(abs(width - sum(given)) * len(parts)):
        if sum(given) == width:
            break
        if sum(given) < width:
            given[order[turn % len(parts)]] += 1
        else:
            largest = max(range(len(parts)), key=lambda at: given[at])
            given[largest] -= given[largest] > 0
    return given
