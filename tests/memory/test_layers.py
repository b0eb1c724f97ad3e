"""Layer budgets: sums are exact within every bound, each allocator favours the layers it says it does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.layers import ALLOCATORS, Profile, allocate
from memory.layers.allocate import DrafterRefiner, Pyramid, Sensitivity

PROFILE = Profile(sensitivity=(0.0, 0.1, 0.4, 0.2), selectivity=(0.3, 0.9, 0.6, 0.8))
EVERY = range(4)


@st.composite
def divisions(draw: st.DrawFn) -> tuple[list[float], int, int, int]:
    """(shares, total, floor, cap) that can be met."""
    share = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1e300), st.floats(0, 1))
    shares = draw(st.lists(share, min_size=1, max_size=40))
    floor = draw(st.integers(0, 500))
    cap = floor + draw(st.integers(0, 5000))
    return shares, draw(st.integers(floor * len(shares), cap * len(shares))), floor, cap


@settings(max_examples=300)
@given(divisions())
def test_sums_are_exact_within_bounds_and_follow_the_shares(division: tuple[list[float], int, int, int]) -> None:
    shares, total, floor, cap = division
    entries = allocate(shares, total, floor, cap)
    assert sum(entries) == total
    assert all(floor <= count <= cap for count in entries)
    ranked = sorted(zip(shares, entries, strict=True))
    for (less, few), (more, many) in pairwise(ranked):
        assert few <= many
        assert less < more or many - few <= 1
    assert entries == allocate(shares, total, floor, cap)


@settings(max_examples=100)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(1, 100),
    st.sampled_from([1.0, 0.25, 1024.0]),
)
def test_shares_that_divide_evenly_are_met_to_the_entry(parts: list[int], each: int, unit: float) -> None:
    entries = allocate([part * unit for part in parts], each * sum(parts), 0, each * sum(parts))
    assert entries == [part * each for part in parts]


def test_what_bounds_take_or_leave_is_divided_among_the_others() -> None:
    assert allocate([8, 1, 1], 100, 0, 40) == [40, 30, 30]
    assert allocate([8, 1, 1], 100, 20, 100) == [60, 20, 20]
    assert allocate([100, 10, 1, 0], 100, 5, 60) == [60, 30, 5, 5]


def test_a_layer_of_no_share_gets_its_floor_and_what_no_other_can_hold() -> None:
    assert allocate([1, 0, 1], 100, 10, 100) == [45, 10, 45]
    assert allocate([1, 0, 1], 100, 10, 40) == [40, 20, 40]
    assert allocate([0, 0, 0], 100, 10, 100) == [34, 33, 33]
    assert allocate([], 0, 0, 0) == []


@pytest.mark.parametrize(
    ("shares", "total", "floor", "cap", "word"),
    [
        ([1, 1], 9, 5, 10, "2 layers of 5 to 10 entries each cannot hold 9"),
        ([1, 1], 21, 5, 10, "cannot hold 21"),
        ([1, 1], 12, 7, 6, "at least 7 and at most 6"),
        ([1, 1], 12, -1, 12, "at least -1"),
        ([1, -1], 12, 0, 12, "not negative"),
        ([1, float("nan")], 12, 0, 12, "finite"),
        ([1, float("inf")], 12, 0, 12, "finite"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_a_sentence(
    shares: list[float], total: int, floor: int, cap: int, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        allocate(shares, total, floor, cap)


@pytest.mark.parametrize("name", ALLOCATORS)
def test_every_allocator_divides_any_budget_exactly(name: str) -> None:
    shares = ALLOCATORS[name]().shares(PROFILE, EVERY)
    for total in (400, 1001, 4000):
        entries = allocate(shares, total, 64, 1000)
        assert sum(entries) == total
        assert min(entries) >= 64
        assert max(entries) <= 1000


def test_uniform_gives_every_layer_the_same() -> None:
    assert allocate(ALLOCATORS["uniform"]().shares(None, range(7)), 700, 0, 700) == [100] * 7


def test_a_pyramid_falls_in_a_line_to_a_twentieth_of_the_mean() -> None:
    entries = allocate(Pyramid().shares(None, range(5)), 5000, 0, 5000)
    assert entries == [1950, 1475, 1000, 525, 50]
    assert allocate(Pyramid().shares(None, [3]), 10, 0, 10) == [10]


def test_drafters_are_the_layers_that_attend_most_broadly() -> None:
    assert DrafterRefiner(0.25, 3).shares(PROFILE, EVERY) == [3, 1, 1, 1]
    assert DrafterRefiner(0.5, 2).shares(PROFILE, EVERY) == [2, 1, 2, 1]


def test_sensitive_layers_get_more_the_more_the_higher_the_power() -> None:
    assert Sensitivity(1).shares(PROFILE, EVERY) == pytest.approx([0, 0.25, 1, 0.5])
    assert Sensitivity(2).shares(PROFILE, EVERY) == pytest.approx([0, 0.0625, 1, 0.25])
    assert Sensitivity(0).shares(PROFILE, EVERY) == [1] * 4
    assert Sensitivity().shares(Profile((0.0, 0.0), (0.5, 0.5)), range(2)) == [0, 0]


@pytest.mark.parametrize("name", [name for name, kind in ALLOCATORS.items() if kind.profiled])
def test_only_measured_layers_can_share(name: str) -> None:
    mixed = Profile((None, 0.5, None, 0.1), (None, 0.5, None, 0.6))
    assert len(ALLOCATORS[name]().shares(mixed, [1, 3])) == 2
    for profile, layers, word in ((None, [0], "no layer profile"), (mixed, [1, 2], "layer 2"), (mixed, [4], "layer 4")):
        with pytest.raises(ValueError, match=word):
            ALLOCATORS[name]().shares(profile, layers)
