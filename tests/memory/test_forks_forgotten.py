"""Removing a conversation whose rows a fork uses: the fork keeps them, and no other byte of it is left."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.forgetting import forget
from memory.sweep import check, sweep
from tests.memory.branches import STRIDE, add_rows, everything, open_tier, own_rows, reopened, served, store, text
from tests.memory.failing import failing
from tests.memory.rows import FINGERPRINT, KEEP
from tests.memory.test_folder import canaries, traces
from tests.memory.test_sweep import assert_true

# --- forgetting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [False, True], ids=["in the worker", "without a worker"])
def test_a_fork_keeps_its_rows_and_no_other_byte_of_the_origin_is_left(path: Path, alone: bool) -> None:
    tier, ids = open_tier(path), [*text(1, 8), *range(7000, 7020)]
    mine = [*text(2, 7, ids[: 4 * CHUNK]), *range(8000, 8020)]
    store(tier, "canary-name", ids)
    tier.folder.scores.put_patch("patch", "canary-name", 1, b"queries", b"norms")
    branch = store(tier, "fork", mine, ["canary-name"])
    secret = [one for one in canaries(ids, "canary-name") if one not in canaries(mine, "canary-name")[:-1]]
    assert {file.suffix for file in traces(path, secret)} >= {".kv", ".tail"}
    if alone:
        tier.close()
        folder = KvFolder.open(path)
        forget(folder, "canary-name")
        folder.close()
        tier = open_tier(path)
    else:
        tier.forget("canary-name")
        assert served(tier, "fork", mine) == len(mine)
        row = bytearray(STRIDE)
        tier.read_rows(branch, 0, 1, memoryview(row))  # who has the branch open goes on reading
    assert traces(path, secret) == []
    assert not tier.folder.conversation("canary-name").exists()
    assert tier.folder.scores.patch("patch") is None
    assert served(tier, "fork", mine) == len(mine)
    assert check(tier.folder, repair=False).problems == []
    assert_true(tier.folder)
    tier = reopened(tier)
    assert served(tier, "fork", mine) == len(mine)
    tier.forget("fork")
    assert [file for file in everything(path) if file.suffix in (".kv", ".tail")] == []
    tier.close()


def test_of_several_forks_the_one_that_uses_most_gets_the_rows_and_all_go_on(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 8)
    texts = {f"fork {rows}": text(rows, rows + 2, ids[: rows * CHUNK]) for rows in (2, 6, 4)}
    store(tier, "one", ids)
    for name, mine in texts.items():
        store(tier, name, mine, ["one"])
    tier.forget("one")
    assert own_rows(tier, "fork 6") == 8
    for name in ("fork 6", "fork 4"):
        assert {other: served(tier, other, mine) // CHUNK for other, mine in texts.items()} == {
            other: len(mine) // CHUNK for other, mine in texts.items()
        }
        tier.forget(name)
        del texts[name]
    assert served(tier, "fork 2", texts["fork 2"]) == 4 * CHUNK
    assert own_rows(tier, "fork 2") == 4
    assert_true(tier.folder)
    tier.close()


def test_a_fork_of_an_edit_keeps_the_rows_of_both_lines(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    edited = text(2, 7, ids[: 3 * CHUNK])
    mine = text(3, 7, edited[: 5 * CHUNK])
    store(tier, "one", ids)
    store(tier, "one", edited)
    store(tier, "fork", mine, ["one"])
    tier.forget("one")
    assert served(tier, "fork", mine) == len(mine)
    assert own_rows(tier, "fork") == 7
    assert served(tier, "fork", ids) == 3 * CHUNK
    assert_true(tier.folder)
    tier.close()


def test_who_forgot_can_begin_again_and_takes_nothing_back(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 5)
    branch = store(tier, "one", ids)
    store(tier, "fork", text(2, 6, ids[: 4 * CHUNK]), ["one"])
    tier.forget("one")
    assert served(tier, "one", ids) == 0
    with pytest.raises(OSError, match="No such file"):
        add_rows(tier, branch, text(3, 6, ids))
    store(tier, "one", ids)
    assert served(tier, "one", ids) == len(ids)
    assert served(tier, "fork", text(2, 6, ids[: 4 * CHUNK])) == 6 * CHUNK
    tier.close()


def test_forgetting_a_fork_leaves_the_origin_alone(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 5)
    store(tier, "one", ids)
    store(tier, "fork", text(2, 6, ids[: 4 * CHUNK]), ["one"])
    tier.forget("fork")
    assert served(tier, "one", ids) == len(ids)
    assert not tier.folder.conversation("fork").exists()
    tier.close()


def test_without_an_index_forgetting_finds_out_who_uses_what(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    mine = text(2, 6, ids[: 4 * CHUNK])
    store(tier, "one", ids)
    store(tier, "fork", mine, ["one"])
    tier.close()
    (path / "index.db").write_bytes(b"garbage")
    folder = KvFolder.open(path)
    forget(folder, "one")
    folder.close()
    tier = open_tier(path)
    assert served(tier, "fork", mine) == len(mine)
    assert_true(tier.folder)
    tier.close()


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "replace", "unlink"])
def test_forgetting_that_fails_half_way_can_be_repeated(call: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier, ids = open_tier(path), [*text(1, 8), 5]
    mine = [*text(2, 7, ids[: 4 * CHUNK]), 6]
    store(tier, "one", ids)
    store(tier, "fork", mine, ["one"])
    with failing(monkeypatch, call, 1, errno.EIO), pytest.raises(OSError, match="Input/output"):
        tier.forget("one")
    tier = reopened(tier)
    tier.forget("one")
    assert served(tier, "fork", mine) == len(mine)
    assert not tier.folder.conversation("one").exists()
    assert_true(tier.folder)
    tier.close()


def test_what_was_given_to_and_fro_is_read_where_it_lies(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    store(tier, "one", ids)
    store(tier, "two", text(2, 6, ids[: 4 * CHUNK]), ["one"])
    tier.forget("one")
    mine = text(3, 6, ids[: 4 * CHUNK])
    branch = store(tier, "one", mine, ["two"])
    tier.forget("two")
    tier.read_rows(branch, 0, 6, memoryview(bytearray(6 * STRIDE)))
    assert served(tier, "one", mine) == len(mine)
    assert own_rows(tier, "one") == 6
    tier.close()


@pytest.mark.parametrize("moved", [False, True], ids=["before the move", "after it"])
def test_a_file_on_its_way_to_another_owner_arrives_with_the_next_sweep(path: Path, moved: bool) -> None:
    tier, ids = open_tier(path), text(1, 6)
    mine = text(2, 6, ids[: 4 * CHUNK])
    parent = store(tier, "one", ids).extents[-1].path
    store(tier, "fork", mine, ["one"])
    tier.forget("one")
    tier.close()
    arrived = path / "fork" / parent.name
    if not moved:
        parent.parent.mkdir()
        arrived.replace(parent)
    (path / "index.db").unlink()
    tier = open_tier(path)
    sweep(tier.folder, 10.0, keep=KEEP)
    assert arrived.exists()
    assert not parent.exists()
    assert served(tier, "fork", mine) == len(mine)
    assert_true(tier.folder)
    tier.close()


def test_a_file_that_changed_hands_before_the_index_knew_is_not_taken_for_lost(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    mine = text(2, 6, ids[: 4 * CHUNK])
    origin = store(tier, "one", ids)
    store(tier, "fork", mine, ["one"])
    tier.forget("one")
    row = tier.folder.index.branch(origin.name)
    assert row is not None
    tier.folder.index.give(row.branch, "one", row.rows, row.bytes)
    tier.sweep(10.0)
    assert served(tier, "fork", mine) == len(mine)
    assert_true(tier.folder)
    tier.close()


# --- forks that were not opened yet -----------------------------------------------------------------------------------


@pytest.mark.parametrize("common", [4 * CHUNK, 4 * CHUNK + 20, 8 * CHUNK + 3, 3])
def test_a_fork_that_was_not_opened_keeps_what_it_begins_with(common: int, path: Path) -> None:
    tier = open_tier(path)
    ids = [*text(1, 8), 1, 2, 3] if common > CHUNK else [1, 2, 3]
    secret = canaries(ids, "canary-name")
    store(tier, "canary-name", ids)
    tier.forget("canary-name", {"fork": ids[:common], "stranger": text(9, 3)})
    assert served(tier, "fork", ids[:common]) == (common if common == len(ids) else common // CHUNK * CHUNK)
    assert tier.folder.index.branches("stranger") == []
    shown = canaries(ids[:common], "")[:-1]
    assert traces(path, [one for one in secret if one not in shown]) == []
    assert_true(tier.folder)
    tier = reopened(tier)
    tier.sweep(10.0)
    assert served(tier, "fork", ids[:common]) == (common if common == len(ids) else common // CHUNK * CHUNK)
    tier.close()


def test_heirs_of_an_edit_and_of_several_models_keep_all_that_they_begin_with(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    edited = text(2, 7, ids[: 3 * CHUNK])
    store(tier, "one", ids)
    store(tier, "one", edited)
    tier.close()
    another = Fingerprint.of(FINGERPRINT.to_dict() | {"weights": "another"})
    other = open_tier(path, fingerprint=another)
    add_rows(other, other.fork("one", None, 0), edited)
    other.forget("one", {"early": edited[: 3 * CHUNK], "late": edited[: 5 * CHUNK]})
    assert served(other, "late", edited) == 5 * CHUNK
    assert served(other, "early", edited) == 3 * CHUNK
    assert_true(other.folder)
    other.close()
    tier = open_tier(path)
    assert served(tier, "late", edited) == 5 * CHUNK
    assert served(tier, "early", ids) == 3 * CHUNK
    tier.close()


def test_a_full_disk_keeps_nothing_from_being_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier, ids = open_tier(path), [*text(1, 5), 1]
    store(tier, "one", ids)
    with failing(monkeypatch, "write", 1, errno.ENOSPC, for_ever=True):
        tier.forget("one", {"fork": ids})
    assert not tier.folder.conversation("one").exists()
    assert served(tier, "fork", ids) == 0
    assert_true(tier.folder)
    tier.close()


def test_an_heir_that_has_its_rows_already_gets_no_second_branch(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 5)
    store(tier, "one", ids)
    mine = text(2, 6, ids)
    store(tier, "fork", mine, ["one"])
    tier.forget("one", {"fork": mine})
    assert len(tier.folder.index.branches("fork")) == 2, "its own, and the one that was its origin's"
    assert served(tier, "fork", mine) == len(mine)
    tier.close()
