"""Rules of how long a working set stays pinned that the daemon's own is compared with.

The rule of Continuum (arXiv 2511.02230): a pin of `t` seconds pays off when the tool is back by then, which happens
with the share P(t) of its recorded durations; it then saves the reload and, as far as a program's length is known
(`Turns.eta`), the wait in the queue of those whose KV was let go. Each second that a pin lasts costs one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

ENOUGH = 100
"""Records that a distribution needs more than, to be used: first of all tools together, then of a tool itself."""

KEPT = 1000
"""Latest records that are kept of a tool, of all tools together, and of ended programs."""

RECENT_WAITS = 100
"""Latest waits that the mean queueing delay is taken over."""


class History:
    """The latest durations of one kind, sorted."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._latest = deque[float]()
        self._sorted = list[float]()

    def __len__(self) -> int:
        return len(self._latest)

    def record(self, seconds: float) -> None:
        """One more; the oldest leaves when there are too many."""
        if len(self._latest) == self._kept:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(seconds)
        insort(self._sorted, seconds)

    def share(self, seconds: float) -> float:
        """The share of durations that are at most `seconds`; 0 without any."""
        return bisect_right(self._sorted, seconds) / len(self._sorted) if self._sorted else 0.0

    def best(self, worth: float) -> float:
        """The duration t, or 0, for which share(t) * `worth` - t is most; the shortest of equals."""
        best, most = 0.0, 0.0
        for number, seconds in enumerate(self._sorted, start=1):
            gain = number / len(self._sorted) * worth - seconds
            if gain > most:
                best, most = seconds, gain
        return best


class Durations:
    """How long tools ran, each by its name and all together. The user's think time is a tool called `user`."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._of = dict[str, History]()
        self.pooled = History(kept)

    def record(self, tool: str, seconds: float) -> None:
        """`tool` took `seconds`; what is not a duration (negative, not finite) is left out."""
        if not (math.isfinite(seconds) and seconds >= 0):
            return
        self._of.setdefault(tool, History(self._kept)).record(seconds)
        self.pooled.record(seconds)

    def of(self, tool: str) -> History:
        """What is known of `tool`."""
        return self._of.get(tool, History(self._kept))

    def known(self, tool: str) -> History | None:
        """What to judge `tool` by: its own records, those of all tools, or None while there are too few of either."""
        if len(self.pooled) <= ENOUGH:
            return None
        own = self.of(tool)
        return own if len(own) > ENOUGH else self.pooled


class Turns:
    """How many turns ended programs had, and what that says about the turns that one has left."""

    def __init__(self, ended: Iterable[int] = (), kept: int = KEPT) -> None:
        self._ended = deque[int](ended, maxlen=kept)

    def record(self, turns: int) -> None:
        """A program ended after `turns`."""
        self._ended.append(turns)

    @property
    def eta(self) -> float:
        """Memoryfulness: minus the correlation of turns done and turns left, over every moment of ended programs.

        1: all programs have the same number of turns (also: nothing is known); 0: what was done says nothing about
        what is left; negative: the longer one runs, the longer it will.
        """
        done = [turn for turns in self._ended for turn in range(1, turns)]
        left = [turns - turn for turns in self._ended for turn in range(1, turns)]
        spread = _covariance(done, done) * _covariance(left, left)
        return -_covariance(done, left) / math.sqrt(spread) if spread > 0 else 1.0


class Waits:
    """How long requests waited in the queue whose KV had been let go: the latest ones."""

    def __init__(self) -> None:
        self._latest = deque[float](maxlen=RECENT_WAITS)

    def record(self, seconds: float) -> None:
        """A request whose KV had to be brought back waited `seconds`."""
        self._latest.append(seconds)

    @property
    def mean(self) -> float:
        """Seconds; 0 before the first."""
        return sum(self._latest) / len(self._latest) if self._latest else 0.0


@dataclass(frozen=True, slots=True)
class NoPin:
    """Nothing is pinned: working sets leave as they were used."""

    def ttl(self, tool: str, reload_s: float) -> float:  # noqa: ARG002
        return 0.0


@dataclass(frozen=True, slots=True)
class KeepForever:
    """Until the program ends."""

    def ttl(self, tool: str, reload_s: float) -> float:  # noqa: ARG002
        return math.inf


@dataclass(frozen=True, slots=True)
class Optimum:
    """What pays off most on the mean, by the durations that were seen."""

    durations: Durations = field(default_factory=Durations)
    turns: Turns = field(default_factory=Turns)
    waits: Waits = field(default_factory=Waits)

    def ttl(self, tool: str, reload_s: float) -> float:
        """The most of share(t) * (wait * eta + reload) - t. With few records: as if durations were exponential with a
        mean of one second and every program had the same number of turns."""
        history, wait = self.durations.known(tool), self.waits.mean
        if history is None:
            return max(0.0, math.log(wait + reload_s)) if wait + reload_s > 0 else 0.0
        return history.best(wait * self.turns.eta + reload_s)


def _covariance(one: list[int], other: list[int]) -> float:
    """Of two lists of the same length, times that length; 0 of empty ones."""
    if not one:
        return 0.0
    first, second = sum(one) / len(one), sum(other) / len(other)
    return sum((a - first) * (b - second) for a, b in zip(one, other, strict=True))
