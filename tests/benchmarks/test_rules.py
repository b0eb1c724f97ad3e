"""Time to live of pins: the optimum is the one that trying every candidate finds, and few records mean a default."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.daemon.ttl import RELEASED_S, Constant, TimeToLive
from benchmarks.agents.rules import (
    ENOUGH,
    RECENT_WAITS,
    Durations,
    History,
    KeepForever,
    NoPin,
    Optimum,
    Turns,
    Waits,
)

seconds = st.floats(0, 500, allow_nan=False)


def history(durations: list[float]) -> History:
    made = History()
    for one in durations:
        made.record(one)
    return made


def learned(tool: str, durations: list[float]) -> Durations:
    made = Durations()
    for one in durations:
        made.record(tool, one)
    return made


@given(st.lists(seconds, max_size=60), st.floats(-5, 300))
def test_one_pass_finds_what_trying_every_duration_finds(durations: list[float], worth: float) -> None:
    def gain(ttl: float) -> float:
        return sum(1 for one in durations if one <= ttl) / max(1, len(durations)) * worth - ttl

    found = history(durations).best(worth)
    assert found in {0.0, *durations}
    assert gain(found) == pytest.approx(max(gain(one) for one in (0.0, *durations)), abs=1e-9)


def test_a_tool_that_is_mostly_quick_is_waited_for_and_no_longer_than_its_quick_runs() -> None:
    assert history([0.02] * 90 + [60.0] * 10).best(worth=1.0) == 0.02
    assert history([0.02] * 10 + [6.0] * 90).best(worth=7.0) == 6.0
    assert history([6.0] * 100).best(worth=1.0) == 0.0


def test_the_share_of_durations_is_a_step_function() -> None:
    known = history([3.0, 1.0, 2.0, 2.0])
    assert [known.share(at) for at in (0.5, 1.0, 2.0, 2.5, 3.0)] == [0.0, 0.25, 0.75, 0.75, 1.0]
    assert History().share(1.0) == 0.0


def test_of_a_full_history_the_oldest_leaves() -> None:
    known = History(kept=3)
    for one in (9.0, 1.0, 2.0, 3.0):
        known.record(one)
    assert len(known) == 3
    assert known.share(3.0) == 1.0


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_what_is_not_a_duration_is_left_out(wrong: float) -> None:
    assert len(learned("shell", [wrong]).pooled) == 0


def test_a_tool_is_judged_by_all_tools_until_it_was_seen_often() -> None:
    durations = learned("shell", [1.0] * ENOUGH)
    assert durations.known("shell") is None
    durations.record("read", 2.0)
    assert durations.known("shell") is durations.pooled
    assert durations.known("never seen") is durations.pooled
    durations.record("shell", 1.0)
    assert durations.known("shell") is durations.of("shell")
    assert durations.known("read") is durations.pooled


def test_with_few_records_the_default_is_the_logarithm_of_what_a_miss_costs() -> None:
    rule = Optimum()
    assert rule.ttl("shell", 0.5) == 0.0
    assert rule.ttl("shell", 0.0) == 0.0
    assert rule.ttl("shell", math.e**2) == pytest.approx(2.0)
    rule.waits.record(10.0)
    assert rule.ttl("shell", 0.5) == pytest.approx(math.log(10.5))


def test_the_wait_counts_as_far_as_the_number_of_turns_is_known() -> None:
    durations = learned("shell", [5.0] * (ENOUGH + 1))
    fixed, unknown = Turns([8] * 20), Turns([2, 3, 5, 9, 17, 33, 65, 129] * 3)
    waits = Waits()
    waits.record(8.0)
    assert Optimum(durations, fixed, waits).ttl("shell", 1.0) == 5.0
    assert unknown.eta < 0.5
    assert Optimum(durations, unknown, waits).ttl("shell", 1.0) == 0.0


def test_memoryfulness_is_one_for_fixed_lengths_and_negative_for_heavy_tails() -> None:
    assert Turns().eta == 1.0
    assert Turns([1, 1]).eta == 1.0
    assert Turns([12] * 5).eta == pytest.approx(1.0)
    geometric = [length for length in range(1, 40) for _ in range(round(10_000 * 0.8 ** (length - 1) * 0.2))]
    assert Turns(geometric, kept=20_000).eta == pytest.approx(0.0, abs=0.02)
    assert Turns([4] * 4000 + [40] * 10, kept=5000).eta < 0


def test_the_mean_wait_is_that_of_the_latest_requests() -> None:
    waits = Waits()
    assert waits.mean == 0.0
    for one in [1000.0, *[2.0] * RECENT_WAITS]:
        waits.record(one)
    assert waits.mean == 2.0


def test_the_simple_rules() -> None:
    rules: dict[TimeToLive, float] = {
        NoPin(): 0.0,
        Constant(): 0.5,
        Constant(factor=3.0): 1.5,
        Constant(least=RELEASED_S): 2.0,
        KeepForever(): math.inf,
    }
    assert {rule: rule.ttl("shell", 0.5) for rule in rules} == rules
