"""Pinned working sets: who is let go of when room is short, and that nobody leaves for nothing."""

from __future__ import annotations

from pathlib import Path

from memory.store import Memory
from tests.memory.models import make_memory, make_plan, tokens
from tests.memory.tiers import stored_memory


def filled(sizes: dict[str, int], capacity: int = 300) -> Memory:
    """A memory in which these conversations were read one after the other; the last one is active."""
    memory = make_memory("llama", make_plan("llama", capacity, 32))
    for seed, (name, size) in enumerate(sizes.items()):
        memory.open(name)
        memory.read(tokens(size, seed))
    return memory


def test_without_pins_the_one_that_waits_longest_leaves() -> None:
    memory = filled({"a": 60, "b": 60, "c": 60, "d": 60})
    assert list(memory.sets()) == ["b", "c", "d"]


def test_a_pinned_set_stays_while_another_can_leave() -> None:
    memory = filled({"a": 60, "b": 60, "c": 60})
    memory.pins = ["a"]
    memory.open("d")
    assert list(memory.sets()) == ["a", "c"]


def test_of_pinned_sets_the_last_of_the_list_leaves_first() -> None:
    memory = filled({"a": 60, "b": 60, "c": 60})
    memory.pins = ["c", "a", "b"]
    memory.open("d")
    assert list(memory.sets()) == ["a", "c"]


def test_a_set_that_leaves_does_not_take_the_place_of_a_pinned_one() -> None:
    memory = filled({"a": 60, "b": 60, "c": 60})
    memory.pins = ["b", "a"]
    memory.open("d")
    assert list(memory.sets()) == ["a", "b"]


def test_when_the_active_set_grows_unpinned_ones_leave_before_pinned_ones() -> None:
    memory = filled({"a": 60, "b": 60, "c": 100})
    memory.pins = ["a"]
    memory.read(tokens(80, 9))
    assert list(memory.sets()) == ["a", "c"]
    memory.read(tokens(80, 10))
    assert list(memory.sets()) == ["c"]
    assert memory.complete


def test_nobody_leaves_for_a_set_that_cannot_wait_anyway() -> None:
    memory = filled({"a": 60, "b": 200})
    memory.open("c")
    assert list(memory.sets()) == ["a"]


def test_a_set_that_comes_back_from_disk_is_whole_though_others_wait(tmp_path: Path) -> None:
    ids = tokens(300, 1)
    with stored_memory("llama", tmp_path) as memory:
        memory.resume(ids)
        memory.read(ids[:299])
        memory.seal()
        for seed, name in enumerate(("other", "third")):
            memory.open(name)
            memory.read(tokens(90, seed))
        memory.open("chat")
        assert memory.resume(ids).reused == 299
        assert memory.complete


def test_a_large_set_waits_when_the_text_that_comes_is_known_to_be_short() -> None:
    memory = filled({"large": 180})
    memory.open("short", tokens=20)
    assert list(memory.sets()) == ["large"]
    memory.read(tokens(20, 1))
    memory.open("large", tokens=185)
    assert memory.resume(tokens(185, 0)).reused == 180
    assert list(memory.sets()) == ["short", "large"]


def test_a_large_set_does_not_wait_when_a_long_text_comes_or_one_of_unknown_length() -> None:
    for length in (100, 0, 1000):
        memory = filled({"large": 180})
        memory.open("next", tokens=length)
        assert list(memory.sets()) == []


def test_a_small_set_waits_though_the_text_that_comes_is_longer_than_the_pool() -> None:
    memory = filled({"small": 60})
    memory.open("endless", tokens=1000)
    assert list(memory.sets()) == ["small"]
