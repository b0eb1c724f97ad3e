"""In which order the lane runs what waits: by class, in a class by the arrival of the program, and nothing starves.

Inside a class, programs whose working sets are on the device go before those that have to be put back (Continuum: "has
a live pin first"). That puts nobody off for ever, because nothing waits for ever here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

PATIENCE_S = 120.0
"""Seconds after which a waiting job is overdue. Long enough that a backlog of agents is still worked off by program."""

EVERY = 8
"""Of so many jobs in a row, one is the overdue job that waits longest, if there is any."""


class Priority(IntEnum):
    """Classes of jobs, the first one goes first."""

    CHAT = 0
    CONTINUATION = 1
    AGENT = 2
    BATCH = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands: its class, when its program's first step arrived, since when it waits itself (seconds), and
    whether its working set is known to be on the device."""

    priority: Priority
    arrived: float
    since: float
    resident: bool = False


class Order:
    """Picks the next job. It remembers one number: how many went by since an overdue job was served.

    The bound: a job is overdue after `patience` seconds; from then on it runs at the latest as job number
    `every` * (n + 1), where n jobs have waited longer than it. The lane admits a bounded number, so n is bounded.
    """

    def __init__(self, patience: float = PATIENCE_S, every: int = EVERY) -> None:
        self.patience = patience
        self.every = every
        self._since_overdue = 0

    def next(self, waiting: Sequence[Place], now: float) -> int:
        """The index of the job to run now, of at least one; it counts as run."""
        at, self._since_overdue = self._pick(waiting, now, self._since_overdue)
        return at

    def positions(self, waiting: Sequence[Place], now: float) -> list[int]:
        """For each waiting job its number in the line, from 1, if nothing else arrived and no time passed."""
        left, count = list(range(len(waiting))), self._since_overdue
        line = [0] * len(waiting)
        for number in range(1, len(waiting) + 1):
            at, count = self._pick([waiting[index] for index in left], now, count)
            line[left.pop(at)] = number
        return line

    def _pick(self, waiting: Sequence[Place], now: float, count: int) -> tuple[int, int]:
        """(the index to run, the count afterwards)."""
        indices = range(len(waiting))
        longest = min(indices, key=lambda index: waiting[index].since)
        overdue = now - waiting[longest].since > self.patience
        if overdue and count >= self.every - 1:
            return longest, 0
        first = min(indices, key=lambda index: _turn(waiting[index]))
        return first, 0 if overdue and first == longest else min(count + 1, self.every)


def _turn(place: Place) -> tuple[int, bool, float, float]:
    return place.priority, not place.resident, place.arrived, place.since
