"""Forks on disk: a conversation begins with another one's rows, and keeps them whatever becomes of the other one."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.chunkfile import PAGE
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.forgetting import forget
from memory.sharing import Stored, stored_by
from memory.sweep import check, sweep
from memory.tier.disk import DiskTier
from tests.memory.branches import STRIDE, add_rows, everything, open_tier, served, store, text
from tests.memory.failing import failing
from tests.memory.rows import FINGERPRINT
from tests.memory.test_folder import canaries, traces
from tests.memory.test_sweep import assert_true

KEEP = FINGERPRINT.digest.hex()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kv"


def reopened(tier: DiskTier) -> DiskTier:
    """The same folder after a restart."""
    tier.close()
    return open_tier(tier.folder.path)


def own_rows(tier: DiskTier, conversation: str) -> int:
    """Rows that lie in a conversation's own folder, by the sizes of its files."""
    files = tier.folder.conversation(conversation).glob("*.kv")
    return sum((path.stat().st_size - PAGE) // STRIDE for path in files)


# --- what a fork begins with -----------------------------------------------------------------------------------------


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


# --- forgetting ------------------------------------------------------------------------------------------------------


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
    parent = store(tier, "one", ids).segments[-1].path
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


# --- room, age and a lost index --------------------------------------------------------------------------------------


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
    assert branch.segments[-1].path.exists()
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
    origin.segments[-1].path.unlink()
    tier.folder.index.remove(origin.name)
    problems = check(tier.folder, repair=False).problems
    assert problems == [f"The rows that {branch.name} builds on are gone."]
    check(tier.folder, repair=True)
    assert check(tier.folder, repair=False).problems == []
    tier.close()


# --- anything that can happen ----------------------------------------------------------------------------------------


class Family:
    """Conversations that are forked, edited, forgotten and evicted at random."""

    def __init__(self, root: Path, seed: int) -> None:
        self.source, self.root = random.Random(seed), root
        self.tier = open_tier(root)
        self.texts = {"0": text(seed, 3)}
        self.origins: dict[str, list[str]] = {"0": []}
        self.steps = [self.turn, self.turn, self.edit, self.fork, self.fork, self.forget, self.restart, self.sweep]
        store(self.tier, "0", self.texts["0"])

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.source.choice(self.steps)()
            for name, ids in self.texts.items():
                assert served(self.tier, name, ids, self.origins[name]) == len(ids)

    def any(self) -> str:
        return self.source.choice(sorted(self.texts))

    def write(self, name: str, begin: list[int]) -> None:
        """One more row and a few tokens after `begin`."""
        self.texts[name] = text(self.source.randrange(10**9), len(begin) // CHUNK + 1, begin)
        self.texts[name] += self.source.sample(range(1000), self.source.randrange(CHUNK))
        store(self.tier, name, self.texts[name], self.origins[name])

    def turn(self) -> None:
        name = self.any()
        self.write(name, self.texts[name])

    def edit(self) -> None:
        name = self.any()
        self.write(name, self.texts[name][: self.source.randrange(len(self.texts[name]) + 1)])

    def fork(self) -> None:
        origin, name = self.any(), str(self.source.randrange(10**9))
        self.origins[name] = [origin, *self.origins[origin]]
        self.write(name, self.texts[origin][: self.source.randrange(len(self.texts[origin]) + 1)])

    def forget(self) -> None:
        if len(self.texts) > 1:
            name = self.any()
            self.tier.forget(name)
            del self.texts[name]
            assert not self.tier.folder.conversation(name).exists()

    def restart(self) -> None:
        self.tier.close()
        if self.source.random() < 0.5:
            (self.root / "index.db").unlink()
        self.tier = open_tier(self.root)
        self.tier.sweep(10.0)

    def sweep(self) -> None:
        report = sweep(self.tier.folder, 10.0, keep=KEEP)
        assert (report.removed, report.adopted, report.corrected, report.failed) == (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_forked_edited_and_forgotten_every_conversation_is_served_whole(seed: int, tmp_path: Path) -> None:
    family = Family(tmp_path / "kv", seed)
    family.run(25)
    assert_true(family.tier.folder)
    for name in sorted(family.texts):
        family.tier.forget(name)
    assert not list((tmp_path / "kv").glob("*/*"))
    family.tier.close()


# --- how much --------------------------------------------------------------------------------------------------------


def test_own_and_shared_bytes_are_told_while_another_process_writes(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 6), 5]
    assert stored_by(path) == {}
    store(tier, "one", ids)
    edited = text(2, 6, ids[: 2 * CHUNK])
    store(tier, "one", edited)
    whole = sum(file.stat().st_size for file in everything(path / "one"))
    assert stored_by(path) == {"one": Stored(whole, 0)}
    store(tier, "fork", text(3, 6, edited[: 5 * CHUNK]), ["one"])
    store(tier, "two forks", text(4, 7, ids[: 4 * CHUNK]), ["one"])
    store(tier, "two forks", text(5, 7, edited[: 3 * CHUNK]), ["one"])
    told = stored_by(path)
    for name, rows in (("one", 0), ("fork", 5), ("two forks", 4 + 1)):
        own = sum(file.stat().st_size for file in everything(tier.folder.conversation(name)))
        assert told[name] == Stored(own, rows * STRIDE)
    tier.forget("one")
    assert stored_by(path).keys() == {"fork", "two forks"}
    tier.close()


# --- forks that were not opened yet ----------------------------------------------------------------------------------


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
