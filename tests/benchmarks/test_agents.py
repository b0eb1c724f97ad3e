"""The replay of agent runs: nothing is lost or run twice, policies differ only where memory is short, and the modelled
device is the engine's double."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.daemon.order import Order
from assistant.daemon.ttl import Constant, TimeToLive
from assistant.errors import UsageError
from benchmarks.agents.calibration import fit, samples
from benchmarks.agents.compare import PRESSURES, SETTINGS, UNLIMITED, Load, compare, pools
from benchmarks.agents.device import GPU, ModelDevice, Pool, Room, Spent
from benchmarks.agents.real import real_device, tiny_model
from benchmarks.agents.rules import KeepForever, NoPin
from benchmarks.agents.simulator import ByRequest, Outcome, Picker, Program, Replay, arrivals
from benchmarks.agents.trace import Run, Step, folds, largest, load, paced

RULES: list[TimeToLive] = [NoPin(), Constant(), KeepForever()]


def run(number: int, tools: Sequence[float], grow: int = 1000) -> Run:
    """A run whose contexts grow by `grow` new tokens and 50 written ones a step."""
    steps = list[Step]()
    for at, seconds in enumerate([*tools, 0.0]):
        tool = None if at == len(tools) else "quick" if seconds < 1 else "slow"
        steps.append(Step(at * (grow + 50), grow, 50, tool, seconds))
    return Run(f"run {number}", f"task {number}", tuple(steps), model_s=10.0)


def some_runs(count: int = 12) -> list[Run]:
    generator = random.Random(5)
    return [
        run(number, [generator.choice((0.05, 0.5, 8.0)) for _ in range(generator.randint(2, 10))])
        for number in range(count)
    ]


def replay(
    programs: Sequence[Program], entries: int, rule: TimeToLive, order: Picker | None = None
) -> tuple[Outcome, Counter[tuple[str, int]]]:
    """The outcome, and how often each step ran."""
    ran = Counter[tuple[str, int]]()

    class Counting(ModelDevice):
        def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent:
            ran[program, step.kept] += 1
            return super().run(program, step, pins)

    device = Counting(GPU, Room(entries))
    return Replay(device, order or Order(), rule, GPU.reload_s).run(programs), ran


@pytest.fixture(scope="module")
def programs() -> list[Program]:
    return arrivals(some_runs(), 30, 0.2, seed=1)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_step_of_every_program_runs_once(programs: list[Program], rule: TimeToLive) -> None:
    outcome, ran = replay(programs, 20_000, rule)
    assert ran == Counter((program.name, step.kept) for program in programs for step in program.run.steps)
    assert set(outcome.took) == {program.name for program in programs}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_program_takes_at_least_its_own_work_and_tools(programs: list[Program], rule: TimeToLive) -> None:
    outcome, _ = replay(programs, 20_000, rule)
    for program in programs:
        alone = GPU.work_s(program.run.steps) + program.run.tool_s
        assert outcome.took[program.name] >= alone - 1e-6


def test_a_lone_program_takes_just_its_own_work_and_tools() -> None:
    lone = Program("p", 3.0, run(0, [0.5, 8.0, 2.0]))
    outcome, _ = replay([lone], 20_000, NoPin())
    switch = outcome.spent[0].switch
    assert outcome.mean == pytest.approx(GPU.work_s(lone.run.steps) + lone.run.tool_s + switch)
    assert outcome.idle == pytest.approx(lone.run.tool_s)


def test_the_device_is_working_or_idle_from_the_first_arrival_to_the_end(programs: list[Program]) -> None:
    crowd = [Program(program.name, 0.0, program.run) for program in programs]
    outcome, _ = replay(crowd, 20_000, Constant())
    assert sum(one.seconds for one in outcome.spent) + outcome.idle == pytest.approx(outcome.ended)


def test_where_everything_fits_nothing_is_reloaded_and_pins_change_nothing(programs: list[Program]) -> None:
    outcomes = [replay(programs, UNLIMITED, rule)[0] for rule in RULES]
    assert [outcome.reloads for outcome in outcomes] == [0, 0, 0]
    assert outcomes[0].took == outcomes[1].took == outcomes[2].took


def test_who_is_kept_for_ever_is_reloaded_less_than_who_is_not_pinned(programs: list[Program]) -> None:
    none, kept = (replay(programs, 25_000, rule)[0] for rule in (NoPin(), KeepForever()))
    assert 0 < kept.reloads < none.reloads


def test_a_replay_is_the_same_every_time(programs: list[Program]) -> None:
    assert replay(programs, 20_000, Constant())[0] == replay(programs, 20_000, Constant())[0]


def test_by_request_the_one_that_waits_longest_goes_first_and_by_program_the_one_that_arrived_first() -> None:
    first, second, third = (Program(name, at, run(0, [8.0])) for name, at in (("a", 0.0), ("b", 0.1), ("c", 0.2)))
    by_request = replay([first, second, third], UNLIMITED, NoPin(), ByRequest())[0]
    by_program = replay([first, second, third], UNLIMITED, NoPin(), Order())[0]
    assert list(by_request.took) == list(by_program.took) == ["a", "b", "c"]
    many = [Program(f"p{number}", 0.01 * number, run(0, [0.05] * 6)) for number in range(8)]
    by_request, by_program = (replay(many, UNLIMITED, NoPin(), order)[0] for order in (ByRequest(), Order()))
    assert by_program.mean < 0.75 * by_request.mean


def test_what_is_dropped_is_read_again_and_takes_longer_than_putting_it_back(programs: list[Program]) -> None:
    kept, dropped = (ModelDevice(GPU, Room(20_000), recompute=recompute) for recompute in (False, True))
    back, again = (Replay(one, ByRequest(), NoPin(), GPU.reload_s).run(programs) for one in (kept, dropped))
    assert again.reload_s == 0.0
    assert back.reload_s > 0.0
    assert again.mean > back.mean


def test_pools_hold_the_largest_set_and_a_share_of_the_demand() -> None:
    runs = some_runs()
    rooms = pools(Load(40, None, 0.9).programs_of(runs, GPU, 0), GPU)
    beside = [rooms[name].entries - largest(runs) - 256 - 64 for name in PRESSURES]
    shares = list(PRESSURES.values())
    assert beside == sorted(beside)
    assert beside[0] / beside[2] == pytest.approx(shares[0] / shares[2], rel=0.01)


def test_the_table_has_a_row_for_every_pressure_and_policy() -> None:
    rows = compare(some_runs(), GPU, Load(20, None, 0.9), seeds=2)
    assert [(row["pressure"], row["policy"]) for row in rows] == [
        (pressure, setting.name) for pressure in PRESSURES for setting in SETTINGS
    ]
    assert all(row["times_better"] == 1.0 for row in rows if row["policy"] == "no pin")
    assert all(row["worst"] <= row["times_better"] <= row["best"] for row in rows)


# --- the trace -------------------------------------------------------------------------------------------------------


def line(contexts: Sequence[int], **changes: Any) -> str:
    tools = [{"name": "Bash", "dur_s": 2.0}, {"name": "Read", "dur_s": 0.1}]
    steps = [
        {"ctx_tokens": context, "out_tokens_logged": 2, "out_chars": 400, "sidechain": False, "tools": tools}
        for context in contexts
    ]
    return json.dumps({"id": "r", "task": "t", "wall_s": 30.0, "steps": steps} | changes)


def trace(folder: Path, *lines: str) -> Path:
    path = folder / "trace.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_sizes_follow_from_each_other_and_the_longest_of_parallel_calls_counts(tmp_path: Path) -> None:
    [found] = load(trace(tmp_path, line([1000, 1500, 0, 2000])))
    assert found.steps == (
        Step(0, 1000, 100, "Bash", 2.0),
        Step(1100, 400, 100, "Bash", 2.0),
        Step(1600, 400, 100, None, 0.0),
    )
    assert found.model_s == pytest.approx(26.0)


def test_a_context_that_shrinks_is_read_from_the_start(tmp_path: Path) -> None:
    [found] = load(trace(tmp_path, line([1000, 400])))
    assert found.steps[1] == Step(0, 400, 100, None, 0.0)


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.001])
def test_scaled_steps_still_follow_from_each_other(tmp_path: Path, factor: float) -> None:
    [found] = load(trace(tmp_path, line([1000, 1001, 1050, 4000, 9000])), factor)
    for before, after in zip(found.steps, found.steps[1:], strict=False):
        assert after.kept == before.size
        assert min(after.new, after.out) >= 1
    assert paced([found], 0.5)[0].tool_s == pytest.approx(found.tool_s / 2)


@pytest.mark.parametrize("wrong", ["{", "[]", '{"id": "r"}', line([]), line([1]).replace("2.0", "-2.0")])
def test_a_line_that_is_no_run_is_named(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(UsageError, match="Line 2 of the trace"):
        load(trace(tmp_path, line([10, 20]), wrong))
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "absent")


def test_halves_share_no_task() -> None:
    runs = [*some_runs(9), *some_runs(9)]
    first, second = folds(runs)
    assert len(first) + len(second) == 18
    assert not {one.task for one in first} & {one.task for one in second}


# --- the double of the engine ----------------------------------------------------------------------------------------


def test_the_modelled_pool_keeps_and_drops_what_the_engine_does(tmp_path: Path) -> None:
    generator, held = random.Random(3), dict[str, int]()
    room = Room(1500)
    with real_device(tiny_model(2048), tmp_path, room.entries) as device:
        pool, memory = Pool(room), device.memory
        assert (memory.plan.block, memory.plan.patch) == (room.block, room.patch)
        for _ in range(60):
            name, new, out = generator.choice("abcdef"), generator.choice((1, 30, 200)), generator.choice((1, 3))
            step = Step(held.get(name, 0), new, out, "tool", 0.0)
            if step.size > 1100:
                continue
            pins = generator.sample("abcdef", generator.randint(0, 3))
            resident, moved = pool.open(name, step.kept + step.new, pins)
            pool.grow(step.size, pins)
            spent = device.run(name, step, pins)
            assert spent.missed == (step.kept if resident < step.kept else 0)
            assert device.moved == moved
            assert list(memory.sets()) == [*pool.waiting, name]
            held[name] = step.size


def test_prices_are_those_that_the_samples_were_made_with() -> None:
    class Priced(ModelDevice):
        moved = 0

        def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent:
            switches = program != self.pool.active
            spent = super().run(program, step, pins)
            self.moved = round((spent.switch - GPU.switch) / GPU.moved) if switches else 0
            return spent

    endless = samples(Priced(GPU, Room(8000)), 4000)
    found = fit([next(endless) for _ in range(150)], GPU.block_size)
    for name in ("block", "new", "attended", "token", "context", "reload", "reloaded", "switch", "moved", "seal"):
        assert math.isclose(getattr(found, name), getattr(GPU, name), rel_tol=1e-3), name
