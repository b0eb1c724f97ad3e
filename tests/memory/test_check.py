"""`assistant doctor --kv`: a check of every byte finds what is damaged, repairing removes just that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.chunkfile import Layout
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.sweep import check
from memory.tailfile import Tail
from memory.tier.disk import DiskTier

LAYOUT = Layout((200, 131, 64))
ROWS = 6
FIELDS = {"weights": "1"}


def sections(seed: int) -> list[bytes]:
    chooser = random.Random(seed)
    return [chooser.randbytes(size) for size in LAYOUT.sections]


def text(seed: int) -> list[int]:
    chooser = random.Random(seed)
    return [chooser.randrange(1000) for _ in range(CHUNK * ROWS)]


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[DiskTier]:
    folder = KvFolder.open(tmp_path / "kv")
    shapes = [[1, 1]] * 3
    tier = DiskTier(folder, Fingerprint.of(FIELDS), LAYOUT, ["int8"] * 3, shapes, 1 << 30, reserve=0)
    yield tier
    tier.close()


def fill(tier: DiskTier, conversation: str, seed: int) -> Path:
    """A conversation of `ROWS` rows and a tail; its chunk file."""
    ids, branch = text(seed), tier.fork(conversation, None, 0)
    for number in range(ROWS):
        piece = ids[number * CHUNK : (number + 1) * CHUNK]
        tier.append(branch, ids=piece, positions=range(CHUNK), exact=True, sections=sections(seed * 100 + number))
    tier.put_tail(branch, Tail(tier.fingerprint.digest, branch.name, ROWS, (7, 8), (1, 2), True, b"state", b"payload"))
    return branch.extents[-1].path


def test_a_check_finds_what_is_damaged_and_repairing_removes_just_that(tier: DiskTier) -> None:
    sound, broken = fill(tier, "a", 1), fill(tier, "b", 2)
    data = bytearray(broken.read_bytes())
    data[-3 * LAYOUT.stride + LAYOUT.offsets[1]] ^= 4
    broken.write_bytes(data)
    tier.close_files()

    report = check(tier.folder, repair=False)
    assert (report.rows_ok, report.rows_bad) == (ROWS + 3, 3)
    assert len(report.problems) == 1
    assert broken.stat().st_size == len(data)

    check(tier.folder, repair=True)
    again = check(tier.folder, repair=False)
    assert (again.rows_ok, again.rows_bad, again.problems) == (ROWS + 3, 0, [])
    assert sound.exists()
