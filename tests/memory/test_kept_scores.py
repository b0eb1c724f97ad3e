"""Scores over stored KV are kept: growth scores what is new, a restart nothing, and what is lost is made again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.aside import PATCH
from memory.score_store import KEPT
from tests.memory.models import tokens
from tests.memory.selecting import ONE, OTHER, TEXT, read_turn, residents, same, score, scores_of, selecting

pytestmark = pytest.mark.usefixtures("always_bearable")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    patch=st.integers(1, 60),
    kind=st.sampled_from(["llama", "gemma3"]),
    codec=st.sampled_from(["lossless", "int8"]),
)
def test_scores_that_grew_equal_scores_from_scratch(
    lengths: list[int], patch: int, kind: str, codec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same queries over all rows at once give the very same bits."""
    asking, end = tokens(patch, 3), 256
    with selecting(tmp_path_factory.mktemp("kv"), kind, codec=codec) as memory:
        read_turn(memory, TEXT[:end])
        memory.focus(asking)
        for length in lengths:
            end += 64 * length
            read_turn(memory, [*TEXT, *TEXT][:end])
            grown = score(memory, asking)
        passes, store = scores_of(memory).passes, memory.spill.disk.folder.scores  # type: ignore[union-attr]
        memory.spill.call(lambda: store._db.execute("DELETE FROM scores"))  # type: ignore[union-attr]
        assert same(grown, score(memory, asking))
        assert grown[0].shape[-1] == end // 64 * 64
        assert scores_of(memory).passes == passes == -(-patch // 16)


def test_a_restart_asks_nothing_again(tmp_path: Path) -> None:
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        memory.focus(ONE)
        before = residents(memory)
    with selecting(tmp_path) as memory:
        assert memory.resume([*TEXT[:450], 1]).reused == 450
        assert memory.focus(ONE) > 0
        assert scores_of(memory).passes == 0
        assert same(residents(memory)[::3], before[::3])


def test_another_line_of_the_text_scores_just_the_rows_that_differ(tmp_path: Path) -> None:
    other = [*TEXT[:400], *TEXT[900:1000]]
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        before = score(memory, ONE)
        read_turn(memory, other)
        after, passes = score(memory, ONE), scores_of(memory).passes
        assert passes == 3
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old[:, :384], new[:, :384])
            assert not torch.equal(old[:, 384:448], new[:, 384:448])
        read_turn(memory, TEXT[:460])
        assert same(score(memory, ONE), before)


@pytest.mark.parametrize("harm", ["removed", "damaged", "foreign", "short"])
def test_scores_that_are_lost_are_made_again(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.db"
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        memory.focus(ONE)
        before = residents(memory)
    match harm:
        case "removed":
            path.unlink()
        case "damaged":
            path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
        case "foreign":
            path.write_text("not a database")
        case _:
            db = sqlite3.connect(path)
            db.execute("UPDATE scores SET scores = x'00'")
            db.execute("UPDATE patches SET norms = x'00'")
            db.commit()
            db.close()
    with selecting(tmp_path) as memory:
        memory.resume([*TEXT[:450], 1])
        memory.focus(ONE)
        assert scores_of(memory).passes == 3
        assert len(before) == len(residents(memory))
        read_turn(memory, TEXT[:500])
        memory.focus(ONE)
        assert scores_of(memory).passes == 3, "they are kept again"


def test_a_file_that_is_removed_meanwhile_costs_scoring_again(tmp_path: Path) -> None:
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        memory.focus(ONE)
        for path in tmp_path.glob("scores.db*"):
            path.unlink()
        memory.focus(OTHER)
        assert memory.focus(ONE) > 0
        assert memory.focus(ONE) == 0


def test_a_damaged_row_is_read_again_and_the_turn_goes_on(tmp_path: Path) -> None:
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        memory.spill.flush()  # type: ignore[union-attr]
        path = next(tmp_path.rglob("*.kv"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :: 97] = bytes(len(data[len(data) // 2 :: 97]))
        path.write_bytes(data)
        memory.focus(ONE)
        assert memory.tokens == TEXT[:450]
        assert torch.isfinite(memory.read([1])).all()


def test_a_long_patch_is_cut(tmp_path: Path) -> None:
    long = tokens(PATCH + 100, 4)
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        memory.focus(long)
        assert scores_of(memory).passes == PATCH // 16
        assert memory.focus(long[:PATCH]) == 0


def test_scores_are_made_beforehand_until_somebody_waits(tmp_path: Path) -> None:
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        assert not memory.prepare(ONE, lambda: True)
        assert not memory.ready(ONE)
        before = residents(memory)
        assert memory.prepare(ONE)
        assert memory.ready(ONE)
        assert not memory.ready(OTHER)
        assert same(residents(memory), before)
        passes = scores_of(memory).passes
        assert memory.prepare(ONE)
        memory.focus(ONE)
        assert scores_of(memory).passes == passes


def test_of_many_patches_the_one_used_longest_ago_leaves(tmp_path: Path) -> None:
    patches = [tokens(4, 20 + number) for number in range(KEPT + 1)]
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        for patch in (*patches[:KEPT], patches[0], patches[KEPT]):
            memory.focus(patch)
        assert [memory.ready(patch) for patch in patches] == [True, False, *[True] * (KEPT - 1)]


def test_forgetting_leaves_no_score(tmp_path: Path) -> None:
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:450])
        memory.focus(ONE)
        memory.forget("chat")
    db = sqlite3.connect(tmp_path / "scores.db")
    assert [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("patches", "scores")] == [0, 0]
    db.close()
