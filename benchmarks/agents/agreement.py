"""One run on the real engine and on the simulator that was calibrated on it."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from assistant.daemon.order import Order
from benchmarks.agents.calibration import Sample, fit, samples
from benchmarks.agents.compare import BASELINE, Load, Row, Setting, pools
from benchmarks.agents.device import BLOCK, Costs, Device, ModelDevice, Room, Spent
from benchmarks.agents.real import RealDevice, real_device, tiny_model
from benchmarks.agents.rules import KeepForever
from benchmarks.agents.simulator import Outcome, Program, Replay
from benchmarks.agents.trace import Run, Step, largest, paced

WINDOW = 8192


class Alongside:
    """A real device that takes a sample for the calibration, on a memory of its own, after every third step: both
    happen on the machine as it is at the time."""

    def __init__(self, device: RealDevice, more: Iterator[Sample]) -> None:
        self.taken = list[Sample]()
        self._device = device
        self._more = more
        self._steps = 0

    def resident(self) -> Collection[str]:
        return self._device.resident()

    def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent:
        spent = self._device.run(program, step, pins)
        self._steps += 1
        if self._steps % 3 == 0:
            self.taken.append(next(self._more))
        return spent


@contextmanager
def sampled(model: Any, most: int, seed: int = 0) -> Iterator[Iterator[Sample]]:
    """Samples of the real engine, with working sets of up to `most` tokens in a pool that holds about half of them."""
    with tempfile.TemporaryDirectory() as folder, real_device(model, Path(folder), 2 * most) as device:
        yield samples(device, most, seed)


def calibrate(model: Any, most: int, count: int) -> Costs:
    """The prices of the parts of a step with `model`, from `count` samples."""
    with sampled(model, most) as more:
        return fit(list(islice(more, count)), BLOCK)


def agree(runs: Sequence[Run], load: Load, seed: int = 0) -> list[Row]:
    """A row for each of two policies at the highest pressure: what programs took on the engine and in the simulator.

    The runs must fit the tiny model. Their tools are shortened as much as the tiny model is faster than the one they
    were recorded with.
    """
    model, most = tiny_model(WINDOW), largest(runs) + BLOCK
    costs = calibrate(model, most, 200)
    pace = sum(costs.work_s(run.steps) for run in runs) / sum(run.model_s for run in runs)
    programs = load.programs_of(paced(runs, pace), costs, seed)
    room = pools(programs, costs)["high"]
    settings = (BASELINE, Setting("keep", Order, lambda _: KeepForever()))
    return [_row(setting, *_both(model, most, room, setting, programs)) for setting in settings]


def _both(
    model: Any, most: int, room: Room, setting: Setting, programs: Sequence[Program]
) -> tuple[Outcome, Outcome, int]:
    """(on the engine, in the simulator, tokens of open chunks that the engine did not find on disk)."""
    with (
        sampled(model, most, seed=1) as more,
        tempfile.TemporaryDirectory() as folder,
        real_device(model, Path(folder), room.entries) as device,
    ):
        alongside = Alongside(device, more)
        real = _play(alongside, setting, programs)
    simulated = _play(ModelDevice(fit(alongside.taken, room.block), room), setting, programs)
    return real, simulated, device.read_again


def _play(device: Device, setting: Setting, programs: Sequence[Program]) -> Outcome:
    return Replay(device, setting.order(), setting.rule([]), lambda _: 0.0).run(programs)


def _row(setting: Setting, real: Outcome, simulated: Outcome, read_again: int) -> Row:
    def both(name: str, of: Callable[[Outcome], float]) -> Row:
        return {f"{name}_real": round(of(real), 2), f"{name}_simulated": round(of(simulated), 2)}

    return {
        "policy": setting.name,
        "programs": len(real.took),
        "steps": len(real.spent),
        **both("mean_s", lambda one: one.mean),
        "off_percent": round(100 * (simulated.mean / real.mean - 1), 1),
        **both("device_s", lambda one: sum(spent.seconds for spent in one.spent)),
        **both("reloads", lambda one: one.reloads),
        "read_again_tokens": read_again,
        "wait_s_real": round(statistics.fmean(real.waits), 3),
    }
