"""Discrete events: programs arrive, their steps run one at a time on a device, their tools run beside it.

The pins, the time to live and the order of the lane are the daemon's own (`assistant.daemon`). Time is the sum of what
the device says its steps took and of the recorded durations of tools, so that a real device can be put in the place of
the modelled one and nobody sleeps.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from assistant.daemon.order import Place, Priority
from assistant.daemon.pins import Pins
from assistant.daemon.ttl import TimeToLive
from benchmarks.agents.device import Device, Spent
from benchmarks.agents.rules import Optimum
from benchmarks.agents.trace import Run, Step


@dataclass(frozen=True, slots=True)
class Program:
    """A run that arrives at a time."""

    name: str
    arrived: float
    run: Run


class Picker(Protocol):
    """Who goes next."""

    def next(self, waiting: Sequence[Place], now: float) -> int: ...


class ByRequest:
    """First come, first served by request: what an engine does that knows no programs."""

    def next(self, waiting: Sequence[Place], now: float) -> int:  # noqa: ARG002
        return min(range(len(waiting)), key=lambda index: waiting[index].since)


@dataclass(slots=True)
class Outcome:
    """What became of a replay: seconds each program took from arrival to end, where the device's time went, and its
    bubbles: `reload` seconds in `spent`, in which it moved bytes, and `idle` ones, in which every program was in a
    tool."""

    took: dict[str, float] = field(default_factory=dict)
    spent: list[Spent] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    demand: float = 0.0
    """Tokens of the working sets of programs that had begun and not ended, times seconds."""
    idle: float = 0.0
    ended: float = 0.0

    @property
    def reloads(self) -> int:
        """Steps whose working set had left the device."""
        return sum(one.missed > 0 for one in self.spent)

    @property
    def reload_s(self) -> float:
        return sum(one.reload for one in self.spent)

    @property
    def mean(self) -> float:
        """Mean seconds that programs took."""
        return sum(self.took.values()) / len(self.took)

    def percentile(self, share: float) -> float:
        """Seconds that `share` of the programs did not exceed."""
        ordered = sorted(self.took.values())
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def arrivals(runs: Sequence[Run], count: int, rate: float, seed: int) -> list[Program]:
    """`count` programs, `rate` of them a second on the mean (Poisson), the runs shuffled and over again."""
    generator, deck, now = random.Random(seed), list[Run](), 0.0
    programs = list[Program]()
    for number in range(count):
        if not deck:
            deck = list(runs)
            generator.shuffle(deck)
        programs.append(Program(f"p{number}", now, deck.pop()))
        now += generator.expovariate(rate)
    return programs


class Replay:
    """One replay: a lane, programs, a rule for pins."""

    def __init__(self, device: Device, order: Picker, rule: TimeToLive, price: Price, *, learn: bool = False) -> None:
        """`price`: seconds that bringing a working set of so many tokens back takes; `learn`: durations and lengths
        are recorded as they come (an `Optimum` alone uses them)."""
        self.device = device
        self.order = order
        self.rule = rule
        self.price = price
        self.learn = learn
        self.now = 0.0
        self.pins = Pins(lambda: self.now)
        self.outcome = Outcome()
        self._ready = list[tuple[float, str, int]]()
        self._waiting = list[tuple[str, int, Place]]()
        self._held = dict[str, int]()

    def run(self, programs: Sequence[Program]) -> Outcome:
        """Until every program has ended."""
        by_name = {program.name: program for program in programs}
        self._ready = [(program.arrived, program.name, 0) for program in programs]
        heapq.heapify(self._ready)
        while self._ready or self._waiting:
            if not self._waiting:
                self._idle_until(self._ready[0][0])
            self._admit(by_name)
            here = self.device.resident()
            places = [replace(place, resident=name in here) for name, _, place in self._waiting]
            name, number, place = self._waiting.pop(self.order.next(places, self.now))
            self._step(by_name[name], number, place)
        self.outcome.ended = self.now
        return self.outcome

    def _idle_until(self, moment: float) -> None:
        if self._held and moment > self.now:
            self.outcome.idle += moment - self.now
        self._pass(max(self.now, moment))

    def _admit(self, programs: dict[str, Program]) -> None:
        """Who is ready joins the lane."""
        while self._ready and self._ready[0][0] <= self.now:
            since, name, number = heapq.heappop(self._ready)
            priority = Priority.CONTINUATION if number else Priority.AGENT
            self._waiting.append((name, number, Place(priority, programs[name].arrived, since)))
            self.pins.follow_up(name)
            if number and self.learn and isinstance(self.rule, Optimum):
                before = programs[name].run.steps[number - 1]
                self.rule.durations.record(before.tool or "none", before.tool_s)

    def _step(self, program: Program, number: int, place: Place) -> None:
        step = program.run.steps[number]
        self.pins.unpin(program.name)
        spent = self.device.run(program.name, step, self.pins.ranking())
        self.outcome.spent.append(spent)
        self.outcome.waits.append(self.now - place.since)
        if isinstance(self.rule, Optimum) and spent.missed:
            self.rule.waits.record(self.now - place.since)
        self._held[program.name] = step.size
        self._pass(self.now + spent.seconds)
        if number + 1 < len(program.run.steps):
            self._call(program, number, step)
        else:
            self._end(program)

    def _call(self, program: Program, number: int, step: Step) -> None:
        """A tool runs beside the lane; the working set is pinned as the rule says."""
        tool = step.tool or "none"
        kept = program.run.steps[number + 1].kept > 0
        ttl = self.rule.ttl(tool, self.price(step.size)) if kept else 0.0
        self.pins.pin(program.name, program.arrived, tool, ttl, step.size)
        heapq.heappush(self._ready, (self.now + step.tool_s, program.name, number + 1))

    def _end(self, program: Program) -> None:
        self.outcome.took[program.name] = self.now - program.arrived
        del self._held[program.name]
        if self.learn and isinstance(self.rule, Optimum):
            self.rule.turns.record(len(program.run.steps))

    def _pass(self, moment: float) -> None:
        self.outcome.demand += sum(self._held.values()) * (moment - self.now)
        self.now = moment


class Price(Protocol):
    def __call__(self, tokens: int) -> float: ...
