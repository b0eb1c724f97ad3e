"""index.db: disposable, true to what was recorded, and no trace is left of what was forgotten."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.database import DatabaseError, OldSqlite, check_sqlite, open_database, quick_check
from memory.index import INDEX, BranchRow, Index
from tests.memory.branches import open_tier, served, store, text

FIELDS = {"weights": "w"}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


def branch_row(branch: str, conversation: str = "one", rows: int = 0, parent: str | None = None) -> BranchRow:
    return BranchRow(branch, conversation, b"f" * 32, parent, 0, 0, rows, 100 * rows, 0)


def chains(*numbers: int) -> list[bytes]:
    return [number.to_bytes(32, "little") for number in numbers]


def test_rows_are_found_by_chained_id_the_best_branch_first(index: Index) -> None:
    index.put(branch_row("a", rows=2), FIELDS, chains(1, 2))
    index.put(branch_row("b", rows=3), FIELDS, chains(1, 2, 3))
    index.put(branch_row("c", "two", rows=3), FIELDS, chains(1, 2, 3))
    assert index.matching("one", b"f" * 32, chains(1, 2, 3, 4)) == [("b", 3), ("a", 2)]
    assert index.matching("one", b"f" * 32, chains(9)) == [("b", 0), ("a", 0)]
    assert index.matching("one", b"g" * 32, chains(1)) == []
    assert index.matching("three", b"f" * 32, chains(1)) == []
    assert index.fields("a") == FIELDS


def test_a_conversation_longer_than_any_limit_of_parameters_is_matched(index: Index) -> None:
    index.put(branch_row("a", rows=40_000), FIELDS, chains(*range(40_000)))
    assert index.matching("one", b"f" * 32, chains(*range(40_000))) == [("a", 40_000)]


def test_a_row_recorded_again_takes_the_place_of_it_and_of_all_later_ones(index: Index) -> None:
    index.put(branch_row("a", rows=3), FIELDS, chains(1, 2, 3))
    index.add_row("a", 1, chains(9)[0], 200)
    row = index.branch("a")
    assert row is not None
    assert (row.rows, row.bytes, len(index.chains()["a"])) == (2, 200, 2)
    assert index.matching("one", b"f" * 32, chains(1, 9)) == [("a", 2)]
    index.cut("a", 1, 100)
    assert (len(index.chains()["a"]), index.total_bytes()) == (1, 100)


def test_use_and_writing_make_a_branch_the_latest_one(index: Index) -> None:
    for name in "abc":
        index.put(branch_row(name), FIELDS, [])
    index.touch("a")
    index.add_row("b", 0, chains(1)[0], 100)
    assert [row.branch for row in index.branches()] == ["c", "a", "b"]
    index.put(branch_row("d", parent="a"), FIELDS, [])
    assert [row.branch for row, _ in index.spare()] == ["c", "b", "d"]
    assert [row.branch for row in index.children("a")] == ["d"]


def test_recency_survives_a_restart(index: Index, tmp_path: Path) -> None:
    index.put(branch_row("a"), FIELDS, [])
    index.put(branch_row("b"), FIELDS, [])
    index.touch("a")
    index.close()
    again = Index(tmp_path / "index.db")
    assert [row.branch for row in again.branches()] == ["b", "a"]
    again.touch("b")
    assert [row.branch for row in again.branches()] == ["a", "b"]
    again.close()


def test_nothing_of_a_forgotten_conversation_is_left_in_the_file(index: Index, tmp_path: Path) -> None:
    for number in range(50):
        branch = f"canary-branch-{number}"
        index.put(branch_row(branch, "canary-conversation", 20), {"w": "canary-field"}, chains(*range(20)))
        index.put(branch_row(f"kept-{number}", "kept", 20), FIELDS, chains(*range(20)))
    index.forget("canary-conversation")
    assert all(b"canary" not in path.read_bytes() for path in tmp_path.iterdir())
    assert {row.conversation for row in index.branches()} == {"kept"}


def test_a_write_that_fails_half_way_changes_nothing(index: Index) -> None:
    index.put(branch_row("a", rows=2), FIELDS, chains(1, 2))
    index._db.execute("CREATE TRIGGER full BEFORE INSERT ON chunks BEGIN SELECT raise(ABORT, 'no room'); END")
    with pytest.raises(OSError, match="no room"):
        index.put(branch_row("b", rows=2), FIELDS, chains(1, 2))
    assert [row.branch for row in index.branches()] == ["a"]
    index.touch("a")


@pytest.mark.parametrize(("pragma", "number"), [("max_page_count = 1", errno.ENOSPC), ("query_only = ON", errno.EROFS)])
def test_what_sqlite_complains_of_is_an_error_of_the_disk(index: Index, pragma: str, number: int) -> None:
    index._db.execute(f"PRAGMA {pragma}")
    with pytest.raises(OSError, match="index") as error:
        index.put(branch_row("a", rows=400), FIELDS, chains(*range(400)))
    assert error.value.errno == number


# --- disposable ------------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def come_from_the_future(path: Path) -> None:
    db = open_database(path, INDEX, "NORMAL")
    db["_sqlite_migrations"].insert({"migration_set": "kv-index", "name": "i999", "applied_at": "later"})
    db.close()


def have_other_tables(path: Path) -> None:
    db = open_database(path, INDEX, "NORMAL")
    for table in ("branches", "chunks"):
        db[table].drop()
        db[table].insert({"what": "else"})
    db.close()


@pytest.mark.parametrize("harm", [remove, fill_with_garbage, cut_in_half, empty, come_from_the_future])
def test_a_lost_index_is_rebuilt_from_the_files(harm: object, tmp_path: Path) -> None:
    tier, begin = open_tier(tmp_path / "kv"), text(1, 2)
    texts = [[*text(seed, 4, begin), seed] for seed in range(3)]
    for ids in texts:
        store(tier, "one", ids)
    store(tier, "two", texts[0])
    before = [(row.branch, row.rows, row.bytes, row.parent) for row in tier.folder.index.branches()]
    tier.close()
    harm(tmp_path / "kv" / "index.db")  # type: ignore[operator]
    tier = open_tier(tmp_path / "kv")
    assert tier.folder.index.fresh
    tier.sweep(10.0)
    after = [(row.branch, row.rows, row.bytes, row.parent) for row in tier.folder.index.branches()]
    assert sorted(after) == sorted(before)
    assert all(served(tier, "one", ids) == len(ids) for ids in texts)
    assert served(tier, "two", texts[0]) == len(texts[0])
    tier.close()
    assert quick_check(tmp_path / "kv" / "index.db") == "ok"


def test_an_index_that_lists_nothing_is_fresh_until_it_was_filled(tmp_path: Path) -> None:
    """Opening the folder just to look must not make the next one believe that nothing is stored."""
    tier = open_tier(tmp_path / "kv")
    store(tier, "one", text(1, 2))
    tier.close()
    (tmp_path / "kv" / "index.db").unlink()
    open_tier(tmp_path / "kv").close()
    tier = open_tier(tmp_path / "kv")
    assert tier.folder.index.fresh
    tier.sweep(10.0)
    tier.close()
    tier = open_tier(tmp_path / "kv")
    assert not tier.folder.index.fresh
    assert served(tier, "one", text(1, 2)) == 2 * CHUNK
    tier.close()


def test_an_index_with_other_tables_fails_as_a_disk_does(tmp_path: Path) -> None:
    Index(tmp_path / "index.db").close()
    have_other_tables(tmp_path / "index.db")
    index = Index(tmp_path / "index.db")
    with pytest.raises(OSError, match="index"):
        index.branches()
    index.close()


def test_an_index_that_can_not_be_made_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "index.db").mkdir()
    with pytest.raises(OSError, match="index"):
        Index(tmp_path / "index.db")


# --- SQLite ----------------------------------------------------------------------------------------------------------


def test_a_sqlite_that_loses_commits_is_refused() -> None:
    check_sqlite()
    with pytest.raises(OldSqlite, match=r"3\.51\.2 can lose committed turns.*3\.51\.3 or later"):
        check_sqlite((3, 51, 2))


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_a_database_is_private_checked_and_as_durable_as_asked(tmp_path: Path, synchronous: str, level: int) -> None:
    path = tmp_path / "some.db"
    db = open_database(path, INDEX, synchronous)  # type: ignore[arg-type]
    db["clock"].insert({"now": 5})
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    pragmas = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "secure_delete")}
    assert modes == dict.fromkeys(("some.db", "some.db-wal", "some.db-shm"), 0o600)
    assert pragmas == {"synchronous": level, "secure_delete": 1}
    db.close()
    assert quick_check(path) == "ok"


def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    path.write_bytes(b"none of ours " * 1000)
    with pytest.raises(DatabaseError):
        open_database(path, INDEX, "FULL")
    assert path.read_bytes() == b"none of ours " * 1000
    assert quick_check(path) != "ok"
