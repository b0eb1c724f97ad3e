"""The disk tier: what is found is what was stored, whatever was cut, damaged, forked or evicted in between."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.chunkfile import PAGE
from memory.errors import RowDamaged
from memory.fingerprint import Fingerprint
from memory.sweep import check, sweep
from memory.tier.disk import DiskTier, QuotaReached
from tests.memory.branches import STRIDE, add_rows, make_tail, open_tier, sections, served, store, text
from tests.memory.rows import FINGERPRINT, LAYOUT
from tests.memory.test_sweep import assert_true


def reopened(tier: DiskTier, quota: int = 1 << 30) -> DiskTier:
    """The same folder after a restart."""
    tier.close()
    return open_tier(tier.folder.path, quota)


def flip(path: Path, row: int) -> None:
    """Damage a section of the file's row `row`."""
    data = bytearray(path.read_bytes())
    data[PAGE + row * STRIDE + LAYOUT.offsets[1]] ^= 1
    path.write_bytes(data)


# --- finding ---------------------------------------------------------------------------------------------------------


def test_rows_and_the_open_chunk_are_found_in_a_new_process(path: Path) -> None:
    ids = [*text(1, 3), 1, 2, 3]
    tier = open_tier(path)
    store(tier, "one", ids)
    tier = reopened(tier)
    assert served(tier, "one", ids) == len(ids)
    assert served(tier, "one", ids[: 2 * CHUNK + 9]) == 2 * CHUNK
    found = tier.find("one", [*ids, 4])
    assert (found.rows, found.differs, found.foreign) == (3, None, ())
    assert found.tail is not None
    assert (found.tail.ids, found.tail.state) == ((1, 2, 3), b"state")
    tier.close()


def test_the_first_token_that_differs_is_named(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 3), 1, 2, 3]
    store(tier, "one", ids)
    for at in (0, 70, 2 * CHUNK, 3 * CHUNK + 1):
        changed = [*ids[:at], ids[at] + 1, *ids[at + 1 :]]
        assert tier.find("one", changed).differs == at
        assert served(tier, "one", changed) == at // CHUNK * CHUNK
    tier.close()


def test_another_conversation_is_never_served_even_with_the_same_text(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 3)
    store(tier, "one", ids)
    assert tier.find("two", ids).branch is None
    assert tier.counters["misses: nothing stored"] == 2
    tier.close()


@pytest.mark.parametrize("name", [name for name, _ in FINGERPRINT.fields])
def test_another_fingerprint_is_a_miss_that_names_the_field_and_deletes_nothing(name: str, path: Path) -> None:
    tier, ids = open_tier(path), text(1, 3)
    store(tier, "one", ids)
    tier.close()
    other = open_tier(path, fingerprint=Fingerprint.of(FINGERPRINT.to_dict() | {name: "another"}))
    found = other.find("one", ids)
    assert (found.branch, found.rows, found.foreign) == (None, 0, (name,))
    assert add_rows(other, other.fork("one", None, 0), ids).rows == 3
    other.sweep(10.0)
    assert served(other, "one", ids) == len(ids)
    other.close()
    tier = open_tier(path)
    assert served(tier, "one", ids) == len(ids)
    tier.close()


def test_of_several_branches_the_longest_is_found(path: Path) -> None:
    tier, begin = open_tier(path), text(1, 2)
    texts = [[*text(seed, 2 + seed, begin), seed] for seed in range(1, 6)]
    for ids in texts:
        store(tier, "one", ids)
    for ids in texts:
        assert served(tier, "one", ids) == len(ids)
    tier.close()


# --- forking ---------------------------------------------------------------------------------------------------------


def test_a_fork_shares_its_parent_s_rows(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    other = text(2, 6, ids[: 4 * CHUNK])
    first, second = store(tier, "one", ids), store(tier, "one", other)
    assert second.extents[-1].path.stat().st_size == PAGE + 2 * STRIDE
    third = text(3, 8, other[: 5 * CHUNK])
    store(tier, "one", third)
    tier = reopened(tier)
    for stored in (ids, other, third):
        assert served(tier, "one", stored) == len(stored)
    assert len({first.name, second.name}) == 2
    assert_true(tier.folder)
    tier.close()


def test_a_branch_can_not_begin_after_rows_that_are_not_there(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 3)
    branch = store(tier, "one", ids)
    for parent, rows in ((None, 1), (branch, 4)):
        with pytest.raises(OSError, match="not stored any more"):
            tier.fork("one", parent, rows)
    tier.close()


def test_rows_cut_behind_a_branch_s_back_are_no_longer_its_own(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    branch = add_rows(tier, tier.fork("one", None, 0), ids[: 5 * CHUNK])
    flip(branch.extents[-1].path, 2)
    check(tier.folder, repair=True)
    with pytest.raises(OSError, match="not stored any more"):
        add_rows(tier, branch, ids)
    assert branch.rows == 2
    add_rows(tier, branch, ids)
    assert served(tier, "one", ids) == len(ids)
    tier.close()


def test_rows_given_up_leave_the_file_before_the_next_one_is_written(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    branch = add_rows(tier, tier.fork("one", None, 0), ids)
    del branch.headers[3:]
    other = text(2, 5, ids[: 3 * CHUNK])
    add_rows(tier, branch, other)
    assert served(tier, "one", other) == len(other)
    assert served(tier, "one", ids) == 3 * CHUNK
    assert_true(tier.folder)
    tier.close()


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_row_goes_to_quarantine_and_can_be_written_again(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    branch = store(tier, "one", ids)
    flip(branch.extents[-1].path, 3)
    found = tier.find("one", ids)
    assert found.branch is not None
    with pytest.raises(RowDamaged) as damage:
        tier.read_rows(found.branch, 0, 6, memoryview(bytearray(6 * STRIDE)))
    assert damage.value.row == 3
    tier.drop_from(found.branch, 3, damage.value.why)
    assert tier.folder.usage().kinds["quarantine"] == STRIDE
    assert (tier.counters["rows_damaged"], tier.counters["rows_quarantined"]) == (1, 1)
    assert served(tier, "one", ids) == 3 * CHUNK
    store(tier, "one", ids)
    assert served(tier, "one", ids) == len(ids)
    assert_true(tier.folder)
    tier.close()


def test_damage_in_a_parent_takes_the_branches_that_build_on_it(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    early, late = text(2, 6, ids[: 2 * CHUNK]), text(3, 7, ids[: 5 * CHUNK])
    for stored in (ids, early, late):
        store(tier, "one", stored)
    branch = tier.find("one", late).branch
    assert branch is not None
    tier.drop_from(branch, 3, "a test says so")
    add_rows(tier, branch, late)
    assert served(tier, "one", early) == len(early)
    assert served(tier, "one", late) == len(late)
    assert served(tier, "one", ids) == 5 * CHUNK
    assert_true(tier.folder)
    tier.close()


def test_damage_in_a_fork_s_first_row_leaves_its_parent_alone(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 6)
    other = text(2, 6, ids[: 4 * CHUNK])
    store(tier, "one", ids)
    branch = store(tier, "one", other)
    tier.drop_from(branch, 4, "a test says so")
    assert served(tier, "one", other) == 4 * CHUNK
    add_rows(tier, tier.fork("one", branch, 4), other)
    assert served(tier, "one", other) == len(other)
    assert served(tier, "one", ids) == len(ids)
    assert_true(tier.folder)
    tier.close()


@pytest.mark.parametrize("data", [None, b"", b"x" * 9000])
def test_a_lost_or_unreadable_file_is_a_miss_and_in_nobody_s_way(data: bytes | None, path: Path) -> None:
    tier, ids = open_tier(path), text(1, 4)
    other = text(2, 4, ids[: 2 * CHUNK])
    branch = store(tier, "one", ids)
    store(tier, "one", other)
    tier = reopened(tier)
    file = branch.extents[-1].path
    file.unlink() if data is None else file.write_bytes(data)
    assert tier.find("one", other).branch is None
    store(tier, "one", other)
    store(tier, "one", ids)
    assert served(tier, "one", ids) == served(tier, "one", other) == 4 * CHUNK
    tier.sweep(10.0)
    assert_true(tier.folder)
    tier.close()


def test_a_whole_file_in_another_one_s_place_is_not_used(path: Path) -> None:
    tier, ids, other = open_tier(path), text(1, 4), text(2, 4)
    one, two = store(tier, "one", ids), store(tier, "two", other)
    tier = reopened(tier)
    one.extents[-1].path.write_bytes(two.extents[-1].path.read_bytes())
    assert served(tier, "one", other) == served(tier, "one", ids) == 0
    assert served(tier, "two", other) == len(other)
    tier.close()


def test_an_open_chunk_is_bound_to_the_rows_before_it(path: Path) -> None:
    """Rows lost without their tail, then other ones in their place: the open chunk's tokens fit, its KV does not."""
    tier, ids = open_tier(path), [*text(1, 6), 7, 8]
    branch = store(tier, "one", ids)
    file, tail = branch.extents[-1].path, branch.extents[-1].path.with_suffix(".tail")
    stale = tail.read_bytes()
    tier.close()
    with file.open("r+b") as stream:
        stream.truncate(PAGE + 4 * STRIDE)
    tier = open_tier(path)
    other = text(2, 6, ids[: 4 * CHUNK])
    add_rows(tier, tier.fork("one", tier.find("one", other).branch, 4), other)
    tail.write_bytes(stale)
    assert served(tier, "one", [*other, 7, 8]) == len(other)
    tier.close()


def test_the_tail_of_another_branch_is_not_used(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 3)
    one, two = store(tier, "one", [*ids, 5]), store(tier, "two", [*ids, 5])
    (one.extents[-1].path.with_suffix(".tail")).write_bytes(two.extents[-1].path.with_suffix(".tail").read_bytes())
    assert tier.find("one", [*ids, 5]).tail is None
    tier.close()


# --- room ------------------------------------------------------------------------------------------------------------


def room_for(tier: DiskTier, rows: int) -> None:
    """Let the quota be what is used now and `rows` rows more."""
    tier.quota = stored_bytes(tier) + rows * STRIDE


def stored_bytes(tier: DiskTier) -> int:
    """What the quota is about."""
    kinds = tier.folder.usage().kinds
    return sum(kinds[kind] for kind in ("chunks", "tails", "quarantine", "scores"))


def test_the_conversation_used_longest_ago_gives_way_from_its_end(path: Path) -> None:
    tier = open_tier(path)
    old, middle, new = text(1, 4), text(2, 4), text(3, 3)
    store(tier, "old", old)
    store(tier, "middle", middle)
    assert served(tier, "old", old) == len(old)  # now "middle" was used longest ago
    branch = tier.fork("new", None, 0)
    room_for(tier, 1)
    add_rows(tier, branch, new)
    assert served(tier, "new", new) == len(new)
    assert served(tier, "old", old) == len(old)
    assert 0 < served(tier, "middle", middle) <= 3 * CHUNK
    assert stored_bytes(tier) <= tier.quota
    assert tier.counters["rows_evicted"] >= 1
    assert_true(tier.folder)
    tier.close()


def test_leaves_give_way_before_what_they_build_on(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 4)
    leaf = text(2, 5, ids[: 3 * CHUNK])
    store(tier, "old", ids)
    store(tier, "old", leaf)
    branch = tier.fork("new", None, 0)
    room_for(tier, 0)
    add_rows(tier, branch, text(3, 2))
    assert served(tier, "old", ids) == len(ids)
    assert served(tier, "old", leaf) == 3 * CHUNK
    tier.close()


def test_what_is_in_use_and_the_writer_itself_never_give_way(path: Path) -> None:
    tier, used, ids = open_tier(path), text(1, 4), text(2, 4)
    store(tier, "used", used)
    branch = add_rows(tier, tier.fork("new", None, 0), ids[: 2 * CHUNK])
    tier.in_use = {"used"}
    room_for(tier, 0)
    with pytest.raises(QuotaReached, match="nothing older can leave"):
        add_rows(tier, branch, ids)
    with pytest.raises(QuotaReached):
        tier.put_tail(branch, make_tail(branch, ids[: 2 * CHUNK]))
    tier.in_use = {"used", "new"}
    with pytest.raises(QuotaReached):
        tier.fork("third", None, 0)
    assert branch.rows == 2
    assert served(tier, "used", used) == len(used)
    assert served(tier, "new", ids) == 2 * CHUNK
    tier.in_use = set()
    add_rows(tier, branch, ids)
    assert served(tier, "new", ids) == len(ids)
    tier.close()


def test_scores_count_and_leave_before_writing_fails(path: Path) -> None:
    tier, ids = open_tier(path), text(2, 4)
    branch = add_rows(tier, tier.fork("new", None, 0), ids[: 2 * CHUNK])
    tier.folder.scores.put_patch("patch", "new", 1, bytes(64 * STRIDE), b"")
    tier = reopened(tier)
    branch = tier.find("new", ids).branch
    assert branch is not None
    room_for(tier, 0)
    add_rows(tier, branch, ids)
    assert tier.folder.usage().kinds["scores"] == 0
    assert tier.folder.scores.patch("patch") is None
    assert served(tier, "new", ids) == len(ids)
    tier.close()


def test_the_reserve_of_the_file_system_stays_free(path: Path) -> None:
    tier = open_tier(path)
    full = DiskTier(tier.folder, FINGERPRINT, LAYOUT, ["int8"] * 3, [[1, 2]] * 3, 1 << 30, reserve=1 << 62)
    with pytest.raises(QuotaReached, match="nearly full"):
        full.fork("one", None, 0)
    tier.close()


def test_what_another_process_left_counts_after_a_restart(path: Path) -> None:
    tier = open_tier(path)
    store(tier, "old", text(1, 5))
    tier = reopened(tier)
    tier.in_use = {"old"}
    room_for(tier, 0)
    with pytest.raises(QuotaReached):
        tier.fork("new", None, 0)
    tier.close()


def test_recency_is_no_wall_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock jumps change neither the order in which conversations give way, nor what a sweep keeps."""
    tier = open_tier(path)
    for number, when in enumerate((2e9, 1.0, 4e9, 1.7e9)):
        monkeypatch.setattr("time.time", lambda when=when: when)
        store(tier, str(number), text(number, 3))
        sweep(tier.folder, 10.0, keep=FINGERPRINT.digest.hex())
    assert [row.conversation for row, _ in tier.folder.index.spare()] == ["0", "1", "2", "3"]
    assert all(served(tier, str(number), text(number, 3)) == 3 * CHUNK for number in range(4))
    tier.close()


# --- an index that fails ---------------------------------------------------------------------------------------------


def test_a_failing_index_is_a_failing_disk_and_reading_goes_on(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 4)
    branch = add_rows(tier, tier.fork("one", None, 0), ids[: 2 * CHUNK])
    tier.folder.index._db.execute("PRAGMA query_only = ON")
    assert served(tier, "one", ids) == 2 * CHUNK
    with pytest.raises(OSError, match="index") as error:
        add_rows(tier, branch, ids)
    assert error.value.errno == errno.EROFS
    assert branch.rows == 2
    tier.folder.index._db.execute("PRAGMA query_only = OFF")
    add_rows(tier, branch, ids)
    assert served(tier, "one", ids) == len(ids)
    assert_true(tier.folder)
    tier.close()


def test_an_index_that_can_not_even_be_read_is_a_miss(path: Path) -> None:
    tier, ids = open_tier(path), text(1, 2)
    store(tier, "one", ids)
    tier.folder.index._db.execute("ALTER TABLE chunks RENAME TO gone")
    found = tier.find("one", ids)
    assert (found.branch, found.rows) == (None, 0)
    assert any("index" in reason for reason in tier.counters if reason.startswith("misses: the disk says"))
    tier.close()


def test_a_durable_tier_is_synced_before_a_row_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier = open_tier(path)
    durable = DiskTier(tier.folder, FINGERPRINT, LAYOUT, ["int8"] * 3, [[1, 2]] * 3, 1 << 30, reserve=0, durable=True)
    branch = durable.fork("one", None, 0)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        durable.append(branch, ids=range(CHUNK), positions=range(CHUNK), exact=True, sections=sections(range(CHUNK)))
    assert branch.rows == 0
    tier.close()
