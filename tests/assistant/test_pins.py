"""Pins of programs: who counts, in which order they give way, what they hold."""

from __future__ import annotations

import math

import pytest

from assistant.daemon.pins import Pins

MIB = 2**20


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_who_arrived_first_is_let_go_of_last_whenever_it_was_pinned(clock: Clock) -> None:
    pins = Pins(clock)
    for name, arrived in (("second", 2.0), ("third", 3.0), ("first", 1.0)):
        pins.pin(name, arrived, "shell", 10.0, MIB)
    assert pins.ranking() == ["first", "second", "third"]


def test_an_expired_pin_counts_no_more_and_is_still_shown(clock: Clock) -> None:
    pins = Pins(clock)
    pins.pin("short", 1.0, "shell", 5.0, 2 * MIB)
    pins.pin("long", 2.0, "shell", 50.0, 3 * MIB)
    clock.now += 5.0
    assert pins.ranking() == ["long"]
    assert [(row.program, row.state, row.left_s, row.bytes) for row in pins.view()] == [
        ("long", "live", 45.0, 3 * MIB),
        ("short", "expired", 0.0, 2 * MIB),
    ]


def test_an_expired_pin_whose_next_step_waits_counts(clock: Clock) -> None:
    pins = Pins(clock)
    pins.pin("agent", 1.0, "shell", 5.0, MIB)
    clock.now += 60.0
    assert pins.ranking() == []
    pins.follow_up("agent")
    assert pins.ranking() == ["agent"]
    assert [row.state for row in pins.view()] == ["follow-up waits"]
    clock.now += 600.0
    assert pins.ranking() == ["agent"]


def test_a_pin_ends_when_its_program_runs(clock: Clock) -> None:
    pins = Pins(clock)
    pins.pin("agent", 1.0, "shell", math.inf, MIB)
    pins.follow_up("agent")
    pins.unpin("agent")
    assert (pins.ranking(), pins.view()) == ([], [])
    pins.unpin("agent")


def test_a_follow_up_does_not_outlive_the_pin_it_was_for(clock: Clock) -> None:
    pins = Pins(clock)
    pins.pin("agent", 1.0, "shell", 5.0, MIB)
    pins.follow_up("agent")
    pins.pin("agent", 1.0, "read", 5.0, MIB)
    clock.now += 6.0
    assert pins.ranking() == []


def test_without_time_to_live_nothing_is_pinned_and_an_old_pin_ends(clock: Clock) -> None:
    pins = Pins(clock)
    pins.pin("agent", 1.0, "shell", 5.0, MIB)
    pins.pin("agent", 1.0, "shell", 0.0, MIB)
    pins.follow_up("agent")
    assert pins.view() == []


def test_a_pin_for_ever_has_no_end(clock: Clock) -> None:
    pins = Pins(clock)
    pins.pin("agent", 1.0, "user", math.inf, MIB)
    clock.now += 1e9
    assert pins.ranking() == ["agent"]
    assert [row.left_s for row in pins.view()] == [None]
