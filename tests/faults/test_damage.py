"""10,000 ways to damage a chunk file: what is served is what was written, or nothing is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.chunkfile import ChunkFile, FileHeader, Layout, RowHeader
from memory.errors import DamagedFile, RowDamaged
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.sweep import check
from memory.tailfile import Tail, pack, unpack
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
    return branch.segments[-1].path


def damage(data: bytes, chooser: random.Random, other: bytes) -> bytes:
    """One way to damage a chunk file with `ROWS` rows; `other` is a sound file of another conversation."""
    start = len(data) - ROWS * LAYOUT.stride
    whole = bytearray(data)
    row = lambda: chooser.randrange(ROWS)  # noqa: E731
    match chooser.randrange(8):
        case 0 | 1:
            for _ in range(chooser.randint(1, 6)):
                whole[chooser.randrange(len(whole))] ^= 1 << chooser.randrange(8)
        case 2:
            del whole[chooser.randrange(len(whole)) :]
        case 3:
            one, two = (start + row() * LAYOUT.stride for _ in range(2))
            whole[one : one + LAYOUT.stride], whole[two : two + LAYOUT.stride] = (
                whole[two : two + LAYOUT.stride],
                whole[one : one + LAYOUT.stride],
            )
        case 4:
            at = start + row() * LAYOUT.stride
            whole[at : at + LAYOUT.stride] = other[at : at + LAYOUT.stride]
        case 5:
            at = chooser.randrange(len(whole) // 4096) * 4096
            whole[at : at + 4096] = bytes(4096)
        case 6:
            whole += chooser.randbytes(chooser.randint(1, 2 * LAYOUT.stride))
        case _:
            at = start + row() * LAYOUT.stride + chooser.randrange(LAYOUT.stride)
            whole[at:] = bytes(len(whole) - at)
    return bytes(whole)


def served(path: Path) -> dict[int, bytes]:
    """Every row that the file hands out, by number."""
    rows = dict[int, bytes]()
    try:
        file = ChunkFile.open(path)
    except DamagedFile:
        return rows
    buffer = bytearray(LAYOUT.stride)
    try:
        for index in range(file.rows):
            try:
                file.read_rows(index, 1, memoryview(buffer))
                rows[index] = bytes(buffer)
            except RowDamaged as damaged:
                assert damaged.row == index
    finally:
        file.close()
    return rows


def payload(row: bytes) -> list[bytes]:
    return [row[LAYOUT.offset(layer) :][:size] for layer, size in enumerate(LAYOUT.sections)]


@pytest.mark.parametrize("part", range(9))
def test_a_file_never_serves_what_was_not_written(part: int, tier: DiskTier, tmp_path: Path) -> None:
    """9,000 cases. A row that is sound in itself but of another place is told by its number or its chained id."""
    chooser = random.Random(part)
    data, other = (fill(tier, name, seed).read_bytes() for name, seed in (("a", 1), ("b", 2)))
    path, expected = tmp_path / "file.kv", [sections(100 + number) for number in range(ROWS)]
    chains = [RowHeader.unpack(row, number, 3).chain for number, row in served_of(data, path).items()]
    for _ in range(1000):
        path.write_bytes(damage(data, chooser, other))
        for number, row in served(path).items():
            if number < ROWS and RowHeader.unpack(row, number, 3).chain == chains[number]:
                assert payload(row) == expected[number]
            else:
                assert payload(row) == sections(200 + number)  # a sound row of the other file, under its own id


def served_of(data: bytes, path: Path) -> dict[int, bytes]:
    path.write_bytes(data)
    return served(path)


def test_the_tier_finds_and_serves_only_the_conversation_s_own_rows(tier: DiskTier) -> None:
    """1,000 cases through the index, the chain of ids and the token ids, each healed for the next one."""
    chooser = random.Random(5)
    path, other = fill(tier, "a", 1), fill(tier, "b", 2).read_bytes()
    data, tail = path.read_bytes(), path.with_suffix(".tail").read_bytes()
    ids, expected = text(1), [sections(100 + number) for number in range(ROWS)]
    lost = 0
    for _ in range(1000):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage(data, chooser, other))
        path.with_suffix(".tail").write_bytes(tail)
        tier.close_files()
        rows = read_through(tier, ids)
        assert rows == expected[: len(rows)]
        lost += len(rows) < ROWS
        path.write_bytes(data)
        tier.close_files()
        tier.sweep(10.0)
    assert lost > 500
    assert read_through(tier, ids) == expected


def read_through(tier: DiskTier, ids: list[int]) -> list[list[bytes]]:
    """Every section the tier serves for `ids`: whole rows as resuming reads them, single sections as streaming does."""
    found = tier.find("a", ids)
    if found.branch is None:
        return []
    rows = list[list[bytes]]()
    buffer = bytearray(LAYOUT.stride)
    for number in range(found.rows):
        try:
            tier.read_rows(found.branch, number, 1, memoryview(buffer))
        except RowDamaged as damaged:
            tier.drop_from(found.branch, damaged.row, damaged.why)
            break
        for layer, size in enumerate(LAYOUT.sections):
            piece = bytearray(size)
            tier.read_sections(found.branch, layer, number, 1, memoryview(piece))
            assert bytes(piece) == payload(bytes(buffer))[layer]
        rows.append(payload(bytes(buffer)))
    return rows


def test_a_damaged_tail_is_never_used(tier: DiskTier) -> None:
    path = fill(tier, "a", 1).with_suffix(".tail")
    data, chooser = path.read_bytes(), random.Random(3)
    for _ in range(500):
        broken = bytearray(data)
        if chooser.random() < 0.5:
            broken[chooser.randrange(len(broken))] ^= 1 << chooser.randrange(8)
        else:
            del broken[chooser.randrange(len(broken)) :]
        with pytest.raises(DamagedFile):
            unpack(bytes(broken))
    assert unpack(data).state == b"state"


def test_a_check_finds_what_is_damaged_and_repairing_removes_just_that(tier: DiskTier) -> None:
    sound, broken = fill(tier, "a", 1), fill(tier, "b", 2)
    data = bytearray(broken.read_bytes())
    data[-3 * LAYOUT.stride + LAYOUT.offset(1)] ^= 4
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


def test_old_and_future_versions_are_refused(tmp_path: Path, tier: DiskTier) -> None:
    data = bytearray(fill(tier, "a", 1).read_bytes())
    for version in (0, 2, 99):
        data[8] = version
        with pytest.raises(DamagedFile, match=f"version {version}"):
            FileHeader.unpack(bytes(data))
    tail = bytearray(b"".join(pack(Tail(bytes(32), "b", 0, (), (), True, b"", b""))))
    tail[8] = 9
    with pytest.raises(DamagedFile, match="version 9"):
        unpack(bytes(tail))
