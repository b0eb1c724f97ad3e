"""The meter adds up, whatever is measured: cells to the width, bytes to the budget, and gaps are parts of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.reports import KvStatus, MemoryReport, MemorySplit, Outside, TierUse
from assistant.views.meter import Part, cells, meter, surroundings


def report(parts: dict[str, int], measured: int, budget: int, outside: Outside | None = None) -> MemoryReport:
    device = TierUse(parts=parts, total=measured, limit=budget)
    return MemoryReport(model="m", memory=MemorySplit(budget=budget), kv=KvStatus(device=device, outside=outside))


def named(parts: tuple[Part, ...]) -> dict[str, int]:
    return {part.name: part.bytes for part in parts}


def test_what_is_set_aside_and_not_in_use_is_said() -> None:
    drawn = meter(report({"weights": 500, "working sets": 100, "free KV": 200, "RAM tier": 0}, 640, 1000))
    assert drawn is not None
    assert named(drawn.parts) == {"weights": 500, "working sets": 100, "free KV": 200, "free": 200}
    assert (drawn.measured, drawn.unused, drawn.over) == (640, 160, 0)


def test_what_no_part_explains_is_a_part() -> None:
    drawn = meter(report({"weights": 500}, 620, 1000))
    assert drawn is not None
    assert named(drawn.parts) == {"weights": 500, "unaccounted": 120, "free": 380}
    assert drawn.unused == 0


def test_a_budget_that_is_passed_is_not_hidden() -> None:
    drawn = meter(report({"weights": 500}, 1200, 1000))
    assert drawn is not None
    assert (drawn.over, named(drawn.parts)["free"]) == (200, 0)


def test_without_a_model_there_is_none() -> None:
    empty = MemoryReport(model=None, memory=MemorySplit(), kv=KvStatus())
    assert meter(empty) is None
    assert surroundings(empty) is None


def test_what_the_system_sees_and_nobody_explains_is_the_gap() -> None:
    outside = Outside(seen=900, parts={"Python and libraries": 200, "other processes": 50}, capacity=4000)
    seen = surroundings(report({"weights": 500}, 600, 1000, outside))
    assert seen is not None
    assert (seen.ours, named(seen.parts), seen.gap) == (600, outside.parts, 50)


@given(
    st.dictionaries(
        st.sampled_from(["weights", "working sets", "free KV", "staging", "process"]), st.integers(0, 10**9)
    ),
    st.integers(0, 3 * 10**9),
    st.integers(1, 4 * 10**9),
)
def test_bytes_always_add_up(parts: dict[str, int], measured: int, budget: int) -> None:
    drawn = meter(report(parts, measured, budget))
    if drawn is None:
        assert not parts
        return
    assert sum(part.bytes for part in drawn.parts) == budget + drawn.over
    assert sum(parts.values()) + named(drawn.parts).get("unaccounted", 0) - drawn.unused == measured


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=9), st.integers(9, 200))
def test_cells_always_fill_the_width(sizes: list[int], width: int) -> None:
    parts = [Part(f"part {at}", size) for at, size in enumerate(sizes)]
    given_ = cells(parts, width)
    assert sum(given_) == (width if sum(sizes) else 0)
    assert all(count > 0 for count, size in zip(given_, sizes, strict=True) if size)
    assert all(count == 0 for count, size in zip(given_, sizes, strict=True) if not size)


@pytest.mark.parametrize("width", [0, 1, 2])
def test_a_bar_that_is_too_narrow_is_no_error(width: int) -> None:
    assert sum(cells([Part("a", 1), Part("b", 1), Part("c", 1)], width)) == width
