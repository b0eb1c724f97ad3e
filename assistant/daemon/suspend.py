"""Whether the machine was suspended: a GPU that slept may have lost what was on it, and says so late or never."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST_S = 2.0
"""Sleep that is noticed; less is the two clocks being read one after the other."""


def slept_s() -> float:
    """Seconds that the machine slept since it was started: one clock goes on meanwhile, the other does not."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Suspension:
    """Asked now and then; `clock` is `slept_s`, or a test's."""

    def __init__(self, clock: Callable[[], float] = slept_s) -> None:
        self._clock = clock
        self._known = clock()

    def happened(self) -> bool:
        """Whether the machine slept since this was asked last."""
        known, self._known = self._known, self._clock()
        return self._known - known >= LEAST_S
