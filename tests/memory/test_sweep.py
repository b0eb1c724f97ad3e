"""Sweeping: index and files say the same afterwards, left-overs are gone, and nothing that is used is removed."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.chunkfile import PAGE, ChunkFile
from memory.errors import RowDamaged
from memory.fingerprint import Fingerprint
from memory.folder import CHUNKS, QUARANTINE, KvFolder
from memory.sweep import FOREIGN_S, FOREIGN_USES, QUARANTINE_BYTES, QUARANTINE_S, check, sweep
from memory.tier.disk import DiskTier, QuotaReached
from tests.memory.branches import STRIDE, add_rows, open_tier, served, store, text
from tests.memory.failing import failing
from tests.memory.rows import KEEP, make_header

DAY = 86_400.0


def assert_true(folder: KvFolder) -> None:
    """The index says what the files say: the same branches, rows and bytes, and no row without what it builds on."""
    rows = {folder.chunks(row): row for row in folder.index.branches()}
    files = {path: path.stat().st_size for path in folder.path.glob(f"*/*{CHUNKS}")}
    assert rows.keys() == files.keys()
    for path, row in rows.items():
        assert (row.bytes, row.rows - row.first_row) == (files[path], (files[path] - PAGE) // STRIDE)
        parent = folder.index.branch(row.parent) if row.parent else None
        assert row.parent is None or (parent is not None and parent.rows >= row.parent_rows == row.first_row)
    assert folder.index.total_bytes() == sum(files.values())
    assert sum(map(len, folder.index.chains().values())) == sum(row.rows - row.first_row for row in rows.values())


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[DiskTier]:
    tier = open_tier(tmp_path / "kv")
    yield tier
    tier.close()


# --- anything that can happen ----------------------------------------------------------------------------------------


class Chaos:
    """Turns of a few conversations, and what happens to folders: restarts, lost, cut and damaged files, evictions."""

    def __init__(self, root: Path, seed: int) -> None:
        self.source = random.Random(seed)
        self.root = root
        self.tier = open_tier(root)
        self.texts = {name: text(number, 2) for number, name in enumerate(("a", "b", "c"))}
        self.steps = [self.turn, self.turn, self.turn, self.edit, self.restart, self.evict, self.forget]
        self.steps += [self.lose_a_file, self.cut_a_file, self.damage_a_file, self.drop, self.lose_the_index, self.junk]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.source.choice(self.steps)()
            self.look(self.source.choice(list(self.texts)))
        for name in self.texts:
            self.look(name)

    def look(self, name: str) -> None:
        """What is served is right; a row found damaged is dropped, as the caller does."""
        ids = self.texts[name]
        for row in range(len(ids) // CHUNK):
            found = self.tier.find(name, ids)
            if row < found.rows and found.branch is not None:
                try:
                    self.tier.read_rows(found.branch, row, 1, memoryview(bytearray(STRIDE)))
                except RowDamaged as damage:
                    self.tier.drop_from(found.branch, damage.row, damage.why)
        served(self.tier, name, ids)

    def turn(self) -> None:
        name = self.source.choice(list(self.texts))
        self.texts[name] = text(self.source.randrange(10**9), len(self.texts[name]) // CHUNK + 1, self.texts[name])
        self.texts[name] += self.source.sample(range(1000), self.source.randrange(CHUNK))
        self.look(name)
        store(self.tier, name, self.texts[name])
        assert served(self.tier, name, self.texts[name]) == len(self.texts[name])

    def edit(self) -> None:
        name = self.source.choice(list(self.texts))
        self.texts[name] = self.texts[name][: self.source.randrange(len(self.texts[name]) + 1)]
        self.turn()

    def restart(self) -> None:
        self.tier.close()
        self.tier = open_tier(self.root)

    def evict(self) -> None:
        kinds = self.tier.folder.usage().kinds
        self.tier.quota = kinds["chunks"] + kinds["tails"] + kinds["quarantine"] - self.source.randrange(4) * STRIDE
        try:
            add_rows(self.tier, self.tier.fork("guest", None, 0), text(1, 1))
        except QuotaReached:
            pass
        finally:
            self.tier.quota = 1 << 30

    def forget(self) -> None:
        self.tier.forget(self.source.choice([*self.texts, "guest"]))

    def files(self) -> list[Path]:
        self.tier.close_files()
        return sorted(self.root.glob("*/*.*"))

    def lose_a_file(self) -> None:
        for path in self.files()[:1]:
            path.unlink()

    def cut_a_file(self) -> None:
        for path in self.source.sample(self.files(), min(1, len(self.files()))):
            with path.open("r+b") as file:
                file.truncate(self.source.randrange(path.stat().st_size + 1))

    def damage_a_file(self) -> None:
        for path in self.source.sample(self.files(), min(1, len(self.files()))):
            data = bytearray(path.read_bytes())
            if data:
                data[self.source.randrange(len(data))] ^= 16
                path.write_bytes(data)

    def drop(self) -> None:
        name = self.source.choice(list(self.texts))
        found = self.tier.find(name, self.texts[name])
        if found.branch is not None and found.rows:
            self.tier.drop_from(found.branch, self.source.randrange(found.rows), "a test says so")

    def lose_the_index(self) -> None:
        self.tier.close()
        index = self.root / "index.db"
        index.unlink() if self.source.random() < 0.5 else index.write_bytes(self.source.randbytes(5000))
        self.tier = open_tier(self.root)
        self.tier.sweep(10.0)

    def junk(self) -> None:
        folder = self.root / self.source.choice(list(self.texts))
        folder.mkdir(exist_ok=True)
        (folder / f"{self.source.randrange(99)}.{self.source.choice(['tmp', 'tail', 'kv'])}").write_bytes(b"junk")


@pytest.mark.parametrize("seed", range(60))
def test_after_anything_and_a_sweep_the_index_says_what_the_files_say(seed: int, tmp_path: Path) -> None:
    chaos = Chaos(tmp_path / "kv", seed)
    chaos.run(30)
    before = {name: served(chaos.tier, name, ids) for name, ids in chaos.texts.items()}
    chaos.tier.sweep(10.0)
    assert_true(chaos.tier.folder)
    assert {name: served(chaos.tier, name, ids) for name, ids in chaos.texts.items()} == before, "nothing used is lost"
    listed = chaos.tier.folder.index.branches()
    report = sweep(chaos.tier.folder, 10.0, keep=KEEP)
    assert (report.removed, report.failed) == (0, 0)
    assert chaos.tier.folder.index.branches() == listed
    chaos.tier.close()


# --- one thing at a time ---------------------------------------------------------------------------------------------


def test_left_overs_go_and_what_is_used_stays(tier: DiskTier) -> None:
    ids = [*text(1, 3), 5]
    branch = store(tier, "one", ids)
    folder = branch.extents[-1].path.parent
    for name in ("x.kv.1234.tmp", "0123456789abcdef.tail"):
        (folder / name).write_bytes(b"left over")
    (tier.folder.path / "empty").mkdir()
    profile = tier.folder.path / "layers-ab.json"
    for path in (profile, profile.with_name("layers-ab.json.1234.tmp")):
        path.write_text("{}")
    report = sweep(tier.folder, 10.0, keep=KEEP)
    assert report.removed == 3
    assert list(tier.folder.path.glob("layers-*")) == [profile]
    assert sorted(path.suffix for path in folder.iterdir()) == [".kv", ".tail"]
    assert not (tier.folder.path / "empty").exists()
    assert served(tier, "one", ids) == len(ids)


def test_a_file_without_a_row_is_adopted_with_its_rows(tier: DiskTier) -> None:
    ids = [*text(1, 3), 5]
    branch = store(tier, "one", ids)
    tier.folder.index.remove(branch.name)
    assert tier.find("one", ids).branch is None
    sweep(tier.folder, 10.0, keep=KEEP)
    assert len(tier.folder.index.branches()) == 1
    assert served(tier, "one", ids) == len(ids)


def test_a_row_without_a_file_goes(tier: DiskTier) -> None:
    branch = store(tier, "one", text(1, 3))
    tier.close_files()
    branch.extents[-1].path.unlink()
    sweep(tier.folder, 10.0, keep=KEEP)
    assert tier.folder.index.branches() == []
    assert_true(tier.folder)


def test_rows_after_one_with_a_damaged_header_are_cut_and_a_damaged_file_is_set_aside(tier: DiskTier) -> None:
    first, second = store(tier, "one", text(1, 5)), store(tier, "two", text(2, 5))
    tier.close_files()
    data = bytearray(first.extents[-1].path.read_bytes())
    data[PAGE + 2 * STRIDE + 8] ^= 1
    first.extents[-1].path.write_bytes(data + b"more")
    second.extents[-1].path.write_bytes(b"none of ours")
    sweep(tier.folder, 10.0, keep=KEEP)
    assert_true(tier.folder)
    assert served(tier, "one", text(1, 5)) == 2 * CHUNK
    assert [path.name for path in tier.folder.path.glob("two/quarantine/*")] == [second.extents[-1].path.name]


def test_branches_go_with_the_rows_they_build_on(tier: DiskTier) -> None:
    ids = text(1, 6)
    other = text(2, 6, ids[: 4 * CHUNK])
    parent = store(tier, "one", ids)
    store(tier, "one", other)
    tier.close_files()
    with parent.extents[-1].path.open("r+b") as file:
        file.truncate(PAGE + 3 * STRIDE)
    sweep(tier.folder, 10.0, keep=KEEP)
    assert [row.branch for row in tier.folder.index.branches()] == [parent.name]
    assert_true(tier.folder)


def test_a_copy_in_another_conversation_s_folder_is_removed(tier: DiskTier) -> None:
    ids = text(1, 3)
    path = store(tier, "one", ids).extents[-1].path
    store(tier, "two", ids)
    copy = tier.folder.path / "two" / path.name
    shutil.copy(path, copy)
    sweep(tier.folder, 10.0, keep=KEEP)
    assert not copy.exists()
    assert served(tier, "one", ids) == served(tier, "two", ids) == len(ids)
    assert_true(tier.folder)


def test_one_file_that_can_not_be_read_or_removed_keeps_no_other_from_being_swept(
    tier: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tier, "one", text(1, 3))
    left = [tier.folder.path / "one" / f"{number}.tmp" for number in range(3)]
    for path in left:
        path.write_bytes(b"left over")
    with failing(monkeypatch, "unlink", 2, errno.EIO):
        report = sweep(tier.folder, 10.0, keep=KEEP)
    assert (report.removed, report.failed) == (2, 1)
    assert [path.exists() for path in left] == [False, True, False]


def test_a_sweep_ends_in_time_and_removes_nothing_it_has_not_looked_at(tier: DiskTier) -> None:
    texts = {name: text(number, 2) for number, name in enumerate("abc")}
    for name, ids in texts.items():
        store(tier, name, ids)
        tier.folder.index.remove(tier.folder.index.branches()[-1].branch)
    sweep(tier.folder, -1.0, keep=KEEP)
    assert not tier.folder.index.branches()
    assert len(list(tier.folder.path.glob("*/*.kv"))) == 3
    sweep(tier.folder, 10.0, keep=KEEP)
    assert all(served(tier, name, ids) == len(ids) for name, ids in texts.items())


# --- age -------------------------------------------------------------------------------------------------------------


def age(path: Path, seconds: float) -> None:
    """As if it was written so long ago."""
    changed = path.stat().st_mtime - seconds
    os.utime(path, (changed, changed))


def test_kv_of_another_fingerprint_goes_when_it_is_old_and_much_else_was_used_since(tmp_path: Path) -> None:
    other = open_tier(tmp_path / "kv", fingerprint=Fingerprint.of({"weights": "old"}))
    foreign = store(other, "one", text(1, 2)).extents[-1].path
    other.close()
    tier, ids = open_tier(tmp_path / "kv"), text(2, 2)
    own = store(tier, "one", ids)
    age(own.extents[-1].path, FOREIGN_S + DAY)
    tier.sweep(10.0)
    age(foreign, FOREIGN_S + DAY)
    tier.sweep(10.0)
    assert foreign.exists(), "old, but as recent as what is used: a clock may have jumped"
    for _ in range(FOREIGN_USES):
        tier.folder.index.touch(own.name)
    sweep(tier.folder, 10.0)
    assert foreign.exists(), "nobody said which fingerprint is in use"
    tier.sweep(10.0)
    assert not foreign.exists()
    assert served(tier, "one", ids) == len(ids), "what is in use is never too old"
    assert_true(tier.folder)
    tier.close()


def test_quarantine_is_bounded_in_time_and_bytes(tier: DiskTier) -> None:
    quarantine = tier.folder.path / "one" / "quarantine"
    quarantine.mkdir(parents=True)
    for number in range(4):
        with (quarantine / f"{number}.row").open("wb") as file:
            file.truncate(QUARANTINE_BYTES // 2)
        age(quarantine / f"{number}.row", number * 60.0)
    sweep(tier.folder, 10.0)
    assert sorted(path.name for path in quarantine.iterdir()) == ["0.row", "1.row"]
    age(quarantine / "0.row", QUARANTINE_S + 60)
    sweep(tier.folder, 10.0)
    assert [path.name for path in quarantine.iterdir()] == ["1.row"]


# --- repairing -------------------------------------------------------------------------------------------------------


def test_a_check_names_what_index_and_files_disagree_on_and_repairing_settles_it(tier: DiskTier) -> None:
    ids = text(1, 6)
    lost, kept = store(tier, "lost", ids), store(tier, "kept", ids)
    orphan = store(tier, "orphan", ids)
    tier.close_files()
    lost.extents[-1].path.unlink()
    tier.folder.index.remove(orphan.name)
    with kept.extents[-1].path.open("ab") as file:
        file.write(b"half a row")
    problems = check(tier.folder, repair=False).problems
    assert len(problems) == 3
    assert all(any(name in problem for problem in problems) for name in (lost.name, kept.name, orphan.name))
    check(tier.folder, repair=True)
    assert check(tier.folder, repair=False).problems == []
    assert_true(tier.folder)
    assert served(tier, "kept", ids) == served(tier, "orphan", ids) == len(ids)


def test_repairing_removes_nothing_that_only_could_not_be_opened(
    tier: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [*text(1, 3), 5]
    store(tier, "one", ids)
    tier.close_files()
    with failing(monkeypatch, "open", 1, errno.EMFILE, for_ever=True):
        report = check(tier.folder, repair=True)
    assert report.problems[0].endswith("(Too many open files).")
    assert served(tier, "one", ids) == len(ids)


def test_an_unreadable_sector_is_damage(tier: DiskTier, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = text(1, 4)
    store(tier, "one", ids)
    tier.close_files()
    with failing(monkeypatch, "preadv", 5, errno.EIO):
        report = check(tier.folder, repair=True)
    assert (report.rows_ok, report.rows_bad) == (2, 2)
    assert served(tier, "one", ids) == 2 * CHUNK
    assert_true(tier.folder)


@pytest.mark.parametrize("branch", ["../../outside", "/tmp/outside", "x\0y"])
def test_a_file_whose_header_names_a_place_elsewhere_is_set_aside(tier: DiskTier, tmp_path: Path, branch: str) -> None:
    store(tier, "a", text(1, 2))
    made = ChunkFile.create(tier.folder.path / "a" / f"{'f' * 16}{CHUNKS}", make_header(branch))
    made.close()
    before = {path for path in tmp_path.rglob("*") if "kv" not in path.parts}
    report = sweep(tier.folder, keep=KEEP)
    assert report.removed == 1
    assert [path.name for path in (tier.folder.path / "a" / QUARANTINE).iterdir()] == [f"{'f' * 16}{CHUNKS}"]
    assert {path for path in tmp_path.rglob("*") if "kv" not in path.parts} == before
    assert_true(tier.folder)
