"""scores.db stays small and says nothing of what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.score_store import KEPT, ScoreStore
from memory.sweep import sweep
from tests.memory.branches import open_tier, store, text


@pytest.fixture
def scores(tmp_path: Path) -> Iterator[ScoreStore]:
    opened = ScoreStore(tmp_path / "scores.db")
    yield opened
    opened.close()


def put(scores: ScoreStore, patch: str, conversation: str = "c", chains: str = "ab") -> None:
    scores.put_patch(patch, conversation, 1, b"queries", b"norms")
    scores.add(patch, [(chain, chain.encode()) for chain in chains])


def test_scores_come_back_in_the_order_that_was_asked_for(scores: ScoreStore) -> None:
    put(scores, "p", chains="abc")
    assert scores.patch("p") == (b"queries", b"norms")
    assert scores.scores("p", ["c", "x", "a", "a"]) == [b"c", None, b"a", b"a"]
    assert scores.scores("other", ["a"]) == [None]
    assert scores.scores("p", []) == []
    assert scores.patch("other") is None


def test_a_patch_that_asks_anew_has_no_old_scores(scores: ScoreStore) -> None:
    put(scores, "p")
    scores.put_patch("p", "c", 1, b"others", b"norms")
    assert scores.scores("p", ["a"]) == [None]
    scores.add("gone", [("a", b"a")])
    assert scores.scores("gone", ["a"]) == [None]


def test_a_conversation_keeps_the_patches_it_used_last(scores: ScoreStore) -> None:
    put(scores, "first", "other")
    for number in range(KEPT):
        put(scores, f"p{number}")
    scores.touch("p0")
    put(scores, "new")
    assert scores.patch("p1") is None
    assert scores.scores("p1", ["a"]) == [None]
    assert all(scores.patch(patch) for patch in ("first", "p0", "p2", "new"))


def test_what_is_forgotten_is_not_in_the_file(scores: ScoreStore) -> None:
    for number in range(200):
        put(scores, f"p{number % 5}", "secret" if number % 2 else "c", chains="abcdefgh")
    put(scores, "s", "secret")
    scores.forget("secret")
    assert scores.patch("s") is None
    found = b"".join(path.read_bytes() for path in scores.path.parent.glob("scores.db*"))
    assert b"secret" not in found


def test_a_sweep_leaves_what_belongs_to_stored_rows(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    branch = store(tier, "c", text(1, 3))
    chains = [header.chain.hex() for header in branch.headers]
    put(tier.folder.scores, "p")
    tier.folder.scores.add("p", [(chain, b"kept") for chain in chains])
    put(tier.folder.scores, "lost", "no longer stored")
    assert sweep(tier.folder).removed == 1
    assert tier.folder.scores.patch("lost") is None
    assert tier.folder.scores.scores("p", [*chains, "a"]) == [b"kept"] * 3 + [None]
    tier.close()


def test_a_folder_without_scores_gets_no_file(tmp_path: Path) -> None:
    tier = open_tier(tmp_path)
    store(tier, "c", text(1, 3))
    sweep(tier.folder)
    tier.forget("c")
    tier.close()
    assert not (tmp_path / "scores.db").exists()
