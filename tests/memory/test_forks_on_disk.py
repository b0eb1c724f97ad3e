"""Forks on disk: a conversation begins with another one's rows, and keeps them whatever becomes of the other one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.fingerprint import Fingerprint
from memory.sharing import Shares, stored_by
from memory.sweep import check, sweep
from tests.memory.branches import STRIDE, add_rows, everything, open_tier, own_rows, reopened, served, store, text
from tests.memory.failing import failing
from tests.memory.rows import FINGERPRINT, KEEP
from tests.memory.test_sweep import assert_true

# --- what a fork begins with ------------------------------------------------------------------------------------------


def test_a_fork_begins_with_its_origin_s_rows_and_writes_only_its_own(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 6), 1, 2, 3]
    other = [*text(2, 7, ids[: 4 * CHUNK]), 9]
    store(tier, "one", ids)
    assert served(tier, "fork", ids) == 0, "who does not name the origin gets nothing"
    assert served(tier, "fork", other, ["one"]) == 4 * CHUNK
    store(tier, "fork", other, ["one"])
    assert own_rows(tier, "fork") == 3
    tier = reopened(tier)
    assert served(tier, "fork", other) == len(other), "once it has a branch of its own, it needs no origin"
    assert served(tier, "one", ids) == len(ids)
    assert_true(tier.folder)
    tier.close()


def test_a_duplicate_begins_with_the_open_chunk_too(path: Path) -> None:
    tier = open_tier(path)
    for name, ids in (("long", [*text(1, 3), 1, 2, 3]), ("short", [1, 2, 3])):
        store(tier, name, ids)
        assert served(tier, f"{name} fork", ids, [name]) == len(ids)
        found = tier.find(f"{name} fork", [*ids, 4], [name])
        assert (found.rows, found.differs) == (len(ids) // CHUNK, None)
    tier.close()


def test_a_fork_of_a_fork_finds_what_any_of_them_stored_and_takes_the_longest(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    middle = text(2, 6, ids[: 4 * CHUNK])
    store(tier, "one", ids)
    store(tier, "two", middle, ["one"])
    assert served(tier, "three", middle, ["two", "one"]) == len(middle)
    assert served(tier, "four", ids, ["two", "one"]) == len(ids), "the origin has more than the nearest one"
    last = text(3, 8, middle[: 5 * CHUNK])
    store(tier, "three", last, ["two", "one"])
    assert served(tier, "three", last) == len(last)
    assert_true(tier.folder)
    tier.close()


def test_what_the_origin_says_later_is_not_the_fork_s(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 4)
    store(tier, "one", ids)
    mine, theirs = text(2, 6, ids), text(3, 6, ids)
    store(tier, "fork", mine, ["one"])
    store(tier, "one", theirs)
    assert served(tier, "fork", mine, ["one"]) == len(mine)
    assert served(tier, "one", theirs) == len(theirs)
    assert served(tier, "fork", theirs) == 4 * CHUNK
    tier.close()


def test_looking_again_makes_no_second_branch(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 4), 7]
    store(tier, "one", ids)
    for _ in range(3):
        assert served(tier, "fork", ids, ["one"]) == len(ids)
    assert len(tier.folder.index.branches("fork")) == 1
    tier.close()


def test_of_another_fingerprint_s_origin_the_field_is_named(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 2)
    store(tier, "one", ids)
    tier.close()
    other = open_tier(path, fingerprint=Fingerprint.of(FINGERPRINT.to_dict() | {"weights": "another"}))
    found = other.find("fork", ids, ["one"])
    assert (found.branch, found.foreign) == (None, ("weights",))
    other.close()


def test_a_fork_that_can_not_be_written_reads_its_origin_s_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier, ids = open_tier(path), text(1, 4)
    store(tier, "one", ids)
    with failing(monkeypatch, "open", 1, errno.ENOSPC, for_ever=True):
        found = tier.find("fork", ids, ["one"])
    assert found.branch is not None
    assert (found.rows, found.branch.conversation) == (4, "one")
    other = text(2, 5, ids)
    assert add_rows(tier, tier.fork("fork", found.branch, 4), other).conversation == "fork"
    assert served(tier, "fork", other) == len(other)
    assert own_rows(tier, "one") == 4
    tier.close()


def test_damage_in_shared_rows_lets_nobody_write_into_the_other_s_file(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    other = text(2, 6, ids[: 4 * CHUNK])
    store(tier, "one", ids)
    branch = store(tier, "fork", other, ["one"])
    tier.drop_from(branch, 2, "a test says so")
    assert served(tier, "fork", other, ["one"]) == served(tier, "one", ids) == 2 * CHUNK
    add_rows(tier, tier.fork("fork", branch, 2), other)
    assert (own_rows(tier, "one"), own_rows(tier, "fork")) == (2, 4)
    assert served(tier, "fork", other) == len(other)
    assert_true(tier.folder)
    tier.close()


def test_a_branch_that_went_with_its_origin_s_rows_begins_again(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    other = text(2, 6, ids[: 4 * CHUNK])
    parent, branch = store(tier, "one", ids), store(tier, "fork", other, ["one"])
    tier.drop_from(parent, 2, "a test says so")
    with pytest.raises(OSError, match="not stored any more"):
        tier.fork("fork", branch, 6)
    assert branch.rows == 4
    store(tier, "fork", other, ["one"])
    assert served(tier, "fork", other) == len(other)
    assert_true(tier.folder)
    tier.close()


# --- room, age and a lost index ---------------------------------------------------------------------------------------


def test_the_quota_takes_what_only_the_origin_uses_and_leaves_the_fork_s_rows(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 8)
    mine = text(2, 5, ids[: 4 * CHUNK])
    store(tier, "one", ids)
    store(tier, "fork", mine, ["one"])
    branch = tier.fork("new", None, 0)
    tier.in_use = {"fork"}
    tier.quota = sum(tier.folder.usage().kinds[kind] for kind in ("chunks", "tails", "quarantine"))
    add_rows(tier, branch, text(3, 4))
    assert served(tier, "one", ids) == 4 * CHUNK
    assert served(tier, "fork", mine) == len(mine)
    assert_true(tier.folder)
    tier.close()


def test_making_room_for_a_fork_takes_no_row_that_it_builds_on(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 4)
    store(tier, "one", ids)
    tier.quota = sum(tier.folder.usage().kinds[kind] for kind in ("chunks", "tails", "quarantine"))
    mine = text(2, 4, ids[: 3 * CHUNK])
    assert served(tier, "fork", mine, ["one"]) == 3 * CHUNK
    assert own_rows(tier, "one") == 3
    assert tier.folder.index.branches("fork")[0].parent_rows == 3
    tier.close()


def test_an_index_that_is_lost_is_made_again_with_who_builds_on_whom(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    mine, other = text(2, 6, ids[: 4 * CHUNK]), text(3, 6, ids[: 2 * CHUNK])
    store(tier, "z", ids)
    store(tier, "a", mine, ["z"])
    store(tier, "zz", other, ["z"])
    tier.close()
    (path / "index.db").unlink()
    tier = open_tier(path)
    assert served(tier, "a", mine) == 0, "nothing is known yet"
    tier.sweep(10.0)
    assert served(tier, "a", mine) == len(mine)
    assert served(tier, "zz", other) == len(other)
    assert_true(tier.folder)
    tier.close()


def test_a_fork_whose_origin_was_not_looked_at_yet_is_not_removed(path: Path) -> None:
    """A sweep that had no time for the origin's file: the fork is a miss until the next one."""
    tier, ids = open_tier(path), text(1, 6)
    mine = text(2, 6, ids[: 4 * CHUNK])
    origin = store(tier, "one", ids)
    branch = store(tier, "fork", mine, ["one"])
    tier.folder.index.remove(origin.name)
    assert served(tier, "fork", mine) == 0
    assert branch.extents[-1].path.exists()
    tier.sweep(10.0)
    assert served(tier, "fork", mine) == len(mine)
    tier.close()


def test_scores_of_rows_that_a_fork_shares_stay(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 4)
    store(tier, "one", ids)
    chains = [header.chain.hex() for header in store(tier, "fork", text(2, 5, ids), ["one"]).headers]
    tier.folder.scores.put_patch("patch", "fork", 1, b"queries", b"norms")
    tier.folder.scores.add("patch", [(chain, b"score") for chain in [*chains, "lost"]])
    sweep(tier.folder, 10.0, keep=KEEP)
    assert tier.folder.scores.scores("patch", [*chains, "lost"]) == [b"score"] * 5 + [None]
    tier.forget("one")
    sweep(tier.folder, 10.0, keep=KEEP)
    assert tier.folder.scores.scores("patch", chains) == [b"score"] * 5
    tier.close()


def test_a_check_names_a_fork_whose_rows_are_gone(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    origin = store(tier, "one", ids)
    branch = store(tier, "fork", text(2, 6, ids[: 4 * CHUNK]), ["one"])
    tier.close_files()
    origin.extents[-1].path.unlink()
    tier.folder.index.remove(origin.name)
    problems = check(tier.folder, repair=False).problems
    assert problems == [f"The rows that {branch.name} builds on are gone."]
    check(tier.folder, repair=True)
    assert check(tier.folder, repair=False).problems == []
    tier.close()


# --- how much ---------------------------------------------------------------------------------------------------------


def test_own_and_shared_bytes_are_told_while_another_process_writes(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 6), 5]
    assert stored_by(path) == {}
    store(tier, "one", ids)
    edited = text(2, 6, ids[: 2 * CHUNK])
    store(tier, "one", edited)
    whole = sum(file.stat().st_size for file in everything(path / "one"))
    assert stored_by(path) == {"one": Shares(whole, 0)}
    store(tier, "fork", text(3, 6, edited[: 5 * CHUNK]), ["one"])
    store(tier, "two forks", text(4, 7, ids[: 4 * CHUNK]), ["one"])
    store(tier, "two forks", text(5, 7, edited[: 3 * CHUNK]), ["one"])
    told = stored_by(path)
    for name, rows in (("one", 0), ("fork", 5), ("two forks", 4 + 1)):
        own = sum(file.stat().st_size for file in everything(tier.folder.conversation(name)))
        assert told[name] == Shares(own, rows * STRIDE)
    tier.forget("one")
    assert stored_by(path).keys() == {"fork", "two forks"}
    tier.close()
