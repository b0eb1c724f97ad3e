"""Any call of the operating system may fail: nothing but the promised errors gets out, no wrong row is ever served."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.errors import RowDamaged
from memory.tier.disk import DiskTier, QuotaReached
from tests.memory.branches import STRIDE, add_rows, open_tier, served, store, text
from tests.memory.failing import failing
from tests.memory.test_sweep import assert_true

OLD, SHARED = text(1, 3), text(2, 5)
OTHER = [*text(3, 6, SHARED[: 3 * CHUNK]), 1, 2, 3]
LONGER = [*text(4, 7, SHARED), 4, 5]
TEXTS = {"old": OLD, "shared": SHARED, "other": OTHER, "longer": LONGER}
CALLS = ["open", "write", "pwrite", "preadv", "fsync", "replace", "unlink", "ftruncate", "mkdir", "fstat"]


def day(tier: DiskTier) -> list[Callable[[], object]]:
    """What happens in one day: turns, a fork, damage, an eviction, a sweep. Each step finds what the others left."""

    def drop() -> None:
        found = tier.find("talk", LONGER)
        if found.branch is not None and found.rows > 2:
            tier.drop_from(found.branch, 2, "a test says so")

    def evict() -> None:
        kinds = tier.folder.usage().kinds
        tier.quota = kinds["chunks"] + kinds["tails"] + kinds["quarantine"] + STRIDE
        try:
            store(tier, "talk", LONGER)
        finally:
            tier.quota = 1 << 30

    return [
        lambda: served(tier, "talk", SHARED),
        lambda: store(tier, "talk", OTHER),
        lambda: store(tier, "talk", LONGER),
        drop,
        evict,
        tier.close_files,
        lambda: store(tier, "talk", OTHER),
        lambda: tier.sweep(10.0),
        lambda: tier.forget("guest"),
    ]


def live(tier: DiskTier) -> None:
    """A day on which every step may fail as promised, and the next one is tried nevertheless."""
    for step in day(tier):
        with suppress(OSError, QuotaReached, RowDamaged):
            step()


def look(tier: DiskTier) -> None:
    """Whatever is served is right; rows that cannot be read are dropped, as the caller does."""
    for conversation in ("old", "talk", "guest"):
        for ids in TEXTS.values():
            for _ in range(3):
                try:
                    served(tier, conversation, ids)
                except RowDamaged as damage:
                    branch = tier.find(conversation, ids).branch
                    if branch is not None and damage.row < branch.rows:
                        tier.drop_from(branch, damage.row, damage.why)


def begin(path: Path) -> DiskTier:
    tier = open_tier(path)
    tier._durable = True
    store(tier, "old", OLD)
    store(tier, "talk", SHARED)
    store(tier, "guest", OLD)
    return tier


@pytest.mark.parametrize(
    ("number", "for_ever"), [(errno.EIO, False), (errno.ENOSPC, True), (errno.EMFILE, True)], ids=["EIO", "full", "fds"]
)
@pytest.mark.parametrize("name", CALLS)
def test_any_failing_call_of_a_day_is_survived(
    name: str, number: int, for_ever: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nth, calls = 1, 1
    while nth <= calls:
        path = tmp_path / str(nth)
        tier = begin(path)
        with failing(monkeypatch, name, nth, number, for_ever=for_ever) as counted:
            live(tier)
            with suppress(RowDamaged, OSError):
                served(tier, "talk", LONGER)
            calls = counted.count
        look(tier)
        tier.sweep(10.0)
        assert_true(tier.folder)
        for ids in TEXTS.values():
            store(tier, "talk", ids)
            assert served(tier, "talk", ids) == len(ids), "after the trouble is over everything is stored again"
        tier.close()
        tier = open_tier(path)
        assert served(tier, "old", OLD) in (0, CHUNK, 2 * CHUNK, 3 * CHUNK)
        assert served(tier, "talk", OTHER) >= 6 * CHUNK
        assert_true(tier.folder)
        tier.close()
        nth += 1 if nth < 10 else 1 + nth // 5
    assert nth > 2 or name in ("fsync", "replace"), "the call is made at all"


@pytest.mark.parametrize("short", [1, 100, 4095])
def test_writes_that_take_few_bytes_are_finished(short: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier = open_tier(tmp_path / "kv")
    with failing(monkeypatch, "pwrite", 0, errno.EIO, short=short):
        branch = add_rows(tier, tier.fork("one", None, 0), OLD[:CHUNK])
    assert branch.rows == 1
    assert served(tier, "one", OLD[:CHUNK]) == CHUNK
    tier.close()


def test_a_full_disk_in_the_middle_of_a_row_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier = open_tier(tmp_path / "kv")
    branch = add_rows(tier, tier.fork("one", None, 0), OLD[: 2 * CHUNK])
    size = branch.extents[-1].path.stat().st_size
    with (
        failing(monkeypatch, "pwrite", 3, errno.ENOSPC, for_ever=True, short=1000),
        pytest.raises(OSError, match="No space"),
    ):
        add_rows(tier, branch, OLD)
    assert (branch.rows, branch.extents[-1].path.stat().st_size) == (2, size)
    add_rows(tier, branch, OLD)
    assert served(tier, "one", OLD) == len(OLD)
    tier.close()
