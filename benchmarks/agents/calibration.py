"""What the parts of a step cost on a device: steps of many sizes in a random order, then a line through each part."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from benchmarks.agents.device import Costs, Spent
from benchmarks.agents.trace import Step

NEW = (2, 8, 32, 128, 512)
OUT = (1, 4, 16)
SIZES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
ROUNDS = 8
"""What is measured with: new tokens and tokens written in a step, working sets as shares of the largest, and further
steps of each."""


class Measured(Protocol):
    """A device that also says how many tokens changed places for the last step."""

    moved: int

    def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A step that was run, and what it took."""

    step: Step
    moved: int
    spent: Spent


def samples(device: Measured, most: int, seed: int = 0) -> Iterator[Sample]:
    """Without end: programs of `SIZES`, then `ROUNDS` further steps of each, mixed, none beyond `most` tokens; again.

    Whether a working set waited or has to be put back is left to the pool: one that holds about half of them gives
    both.
    """
    generator = random.Random(seed)
    for number in count():
        held = dict[str, int]()
        for share in SIZES:
            yield _take(device, held, f"calibration {seed} {number} {share}", round(share * most), 4)
        turns = [name for name in held for _ in range(ROUNDS)]
        generator.shuffle(turns)
        for name in turns:
            new, out = generator.choice(NEW), generator.choice(OUT)
            if held[name] + new + out <= most:
                yield _take(device, held, name, new, out)


def fit(taken: Sequence[Sample], block_size: int) -> Costs:
    """The prices that explain the samples best (least squares, none negative)."""
    steps = [(one.step, one.spent) for one in taken]
    switched = [one for one in taken if one.moved]
    missed = [(step, spent) for step, spent in steps if spent.missed]
    prompts = [
        (-(-step.new // block_size), step.new, step.new * (step.kept + step.new / 2), spent.prefill)
        for step, spent in steps
    ]
    written = [(step.out, step.out * (step.kept + step.new + step.out / 2), spent.decode) for step, spent in steps]
    block, new, attended = _line(prompts)
    token, context = _line(written)
    reload, reloaded = _line((1, step.kept, spent.reload) for step, spent in missed)
    switch, moved = _line((1, one.moved, one.spent.switch) for one in switched)
    seal, sealed = _line((1, step.size, spent.seal) for step, spent in steps)
    return Costs(block, new, attended, token, context, reload, reloaded, switch, moved, seal, sealed, block_size)


def _take(device: Measured, held: dict[str, int], name: str, new: int, out: int) -> Sample:
    step = Step(held.get(name, 0), new, out, "none", 0.0)
    spent = device.run(name, step, [])
    held[name] = step.size
    return Sample(step, device.moved, spent)


def _line(rows: Iterable[Sequence[float]]) -> list[float]:
    """Non-negative prices of the columns whose sum is nearest to the last one."""
    table = np.array(list(rows), dtype=np.float64)
    if not len(table):
        raise ValueError("Nothing was measured of a part of a step; take more rounds.")
    features, seconds = table[:, :-1], table[:, -1]
    used = list(range(features.shape[1]))
    while used:
        scale = np.abs(features[:, used]).max(axis=0)
        found = np.linalg.lstsq(features[:, used] / scale, seconds, rcond=None)[0] / scale
        if (found >= 0).all():
            break
        used.pop(int(found.argmin() if len(used) > 1 else 0))
    prices = [0.0] * features.shape[1]
    for index, price in zip(used, found if used else [], strict=True):
        prices[index] = float(price)
    return prices
