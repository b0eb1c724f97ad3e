"""Several ways to do one thing, in turn, in one process: the median of each, the first round left out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def clock(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def speedups(seconds: Mapping[str, float], other: str) -> dict[str, float]:
    """Seconds of each, and how many times faster than `other` the rest are."""
    return {f"{name}_s": round(taken, 4) for name, taken in seconds.items()} | {
        f"{name}_speedup": round(seconds[other] / taken, 1) for name, taken in seconds.items() if name != other
    }


def medians(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Each side's median of `rounds` figures; every round asks all of them, every other one backwards."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in sides if number % 2 else reversed(list(sides)):
            figures[name].append(sides[name]())
    return {name: statistics.median(some[1:]) for name, some in figures.items()}
