"""Policies side by side: the same programs under three memory pressures, several times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assistant.daemon.order import Order, Place
from assistant.daemon.ttl import Constant, TimeToLive
from benchmarks.agents.device import Costs, ModelDevice, Room
from benchmarks.agents.rules import KeepForever, NoPin, Optimum, Turns
from benchmarks.agents.simulator import ByRequest, Outcome, Picker, Program, Replay, arrivals
from benchmarks.agents.trace import Run, folds, largest

Row = dict[str, Any]

PRESSURES = {"high": 0.15, "middle": 0.35, "low": 0.8}
"""What the pool holds beside the largest working set, as a share of the demand: the tokens of programs that have begun
and not ended, a mean over the time of a replay in which nothing has to leave."""

UNLIMITED = 2**40


@dataclass(frozen=True, slots=True)
class Setting:
    """One column: who goes next, what is pinned (a rule made from runs seen before), whether KV is dropped for good."""

    name: str
    order: Callable[[], Picker]
    rule: Callable[[Sequence[Run]], TimeToLive]
    recompute: bool = False


def learned(runs: Sequence[Run]) -> Optimum:
    """The optimum for the durations and the numbers of turns of `runs`."""
    rule = Optimum(turns=Turns(len(run.steps) for run in runs))
    for step in (step for run in runs for step in run.steps if step.tool is not None):
        rule.durations.record(step.tool or "", step.tool_s)
    return rule


BASELINE = Setting("no pin", ByRequest, lambda _: NoPin())
"""An engine that knows no programs: first come, first served by request, the working set that waits longest leaves."""


class ByProgram(Order):
    """The lane's order without a look at what is on the device."""

    def next(self, waiting: Sequence[Place], now: float) -> int:
        return super().next([replace(place, resident=False) for place in waiting], now)


SETTINGS = (
    Setting("no pin, dropped", ByRequest, lambda _: NoPin(), recompute=True),
    BASELINE,
    Setting("keep, by program alone", ByProgram, lambda _: KeepForever()),
    Setting("order alone", Order, lambda _: NoPin()),
    Setting("constant", Order, lambda _: Constant()),
    Setting("cdf", Order, learned),
    Setting("keep", Order, lambda _: KeepForever()),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives: `programs` runs, `rate` a second on the mean (None: `share` of what the device could do)."""

    programs: int
    rate: float | None
    share: float

    def programs_of(self, runs: Sequence[Run], costs: Costs, seed: int) -> list[Program]:
        """The programs of one replay."""
        work = statistics.fmean(costs.work_s(run.steps) for run in runs)
        return arrivals(runs, self.programs, self.rate or self.share / work, seed)


def pools(programs: Sequence[Program], costs: Costs) -> dict[str, Room]:
    """The pool of each pressure."""
    free = Replay(ModelDevice(costs, Room(UNLIMITED)), ByRequest(), NoPin(), costs.reload_s).run(programs)
    room = Room(largest([program.run for program in programs]), costs.block_size)
    least = room.entries + room.block + room.patch
    return {
        name: Room(least + round(share * free.demand / free.ended), costs.block_size)
        for name, share in PRESSURES.items()
    }


def compare(runs: Sequence[Run], costs: Costs, load: Load, seeds: int) -> list[Row]:
    """A row for each pressure and setting. What is learned is learned from one half of the tasks, and replayed is the
    other half, in turn."""
    found: dict[tuple[str, str], list[tuple[Room, Outcome]]] = {}
    for seed in range(seeds):
        halves = folds(runs)
        seen, played = halves if seed % 2 else reversed(halves)
        programs = load.programs_of(played, costs, seed)
        for pressure, room in pools(programs, costs).items():
            for setting in SETTINGS:
                device = ModelDevice(costs, room, recompute=setting.recompute)
                replay = Replay(device, setting.order(), setting.rule(seen), costs.reload_s)
                found.setdefault((pressure, setting.name), []).append((room, replay.run(programs)))
    return [_row(pressure, name, some, found) for (pressure, name), some in found.items()]


def _row(pressure: str, name: str, some: list[tuple[Room, Outcome]], found: dict[Any, Any]) -> Row:
    outcomes = [outcome for _, outcome in some]
    times = _ratios(found[pressure, BASELINE.name], some)

    def mean(of: Callable[[Outcome], float]) -> float:
        return round(statistics.fmean(map(of, outcomes)), 1)

    return {
        "pressure": pressure,
        "pool": round(statistics.fmean(room.entries for room, _ in some)),
        "policy": name,
        "mean_s": mean(lambda one: one.mean),
        "p50_s": mean(lambda one: one.percentile(0.5)),
        "p99_s": mean(lambda one: one.percentile(0.99)),
        "steps": mean(lambda one: len(one.spent)),
        "reloads": mean(lambda one: one.reloads),
        "reload_s": mean(lambda one: one.reload_s),
        "idle_s": mean(lambda one: one.idle),
        "bubbles_s": mean(lambda one: one.reload_s + one.idle),
        "times_better": round(statistics.fmean(times), 3),
        "worst": round(min(times), 3),
        "best": round(max(times), 3),
        "against_constant": round(statistics.fmean(_ratios(found[pressure, "constant"], some)), 3),
    }


def _ratios(baseline: list[tuple[Room, Outcome]], some: list[tuple[Room, Outcome]]) -> list[float]:
    """How many times sooner programs ended on the mean, for each seed."""
    return [one.mean / other.mean for (_, one), (_, other) in zip(baseline, some, strict=True)]
