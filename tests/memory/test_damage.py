"""10,000 seeded cases of damage: what is served equals what was written, and no other error ever gets out."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from memory.block import CHUNK, extend
from memory.chunkfile import PAGE, ChunkFile, RowHeader
from memory.errors import DamagedFile, RowDamaged
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.tailfile import Tail, pack, unpack
from memory.tier.disk import DiskTier
from tests.memory.rows import FINGERPRINT, LAYOUT, SECTIONS, cut, make_header, make_row, read_row, write_file

ROWS = 5
STRIDE = LAYOUT.stride
Row = tuple[RowHeader, list[bytes]]
Harm = Callable[[random.Random, bytearray, bytes], None]


# --- ways to do harm: (source of chance, the file, another file of the same shape) -----------------------------------


def flip_bits(source: random.Random, data: bytearray, _: bytes) -> None:
    for _ in range(source.choice([1, 1, 1, 2, 30])):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def flip_one_bit_that_counts(source: random.Random, data: bytearray, _: bytes) -> None:
    start = PAGE + source.randrange(ROWS) * STRIDE
    spans = [(0, LAYOUT.row_header), *zip(LAYOUT.offsets, SECTIONS, strict=True)]
    offset, size = source.choice(spans)
    data[start + offset + source.randrange(size)] ^= 1 << source.randrange(8)


def flip_a_bit_of_the_file_header(source: random.Random, data: bytearray, _: bytes) -> None:
    data[source.randrange(PAGE)] ^= 1 << source.randrange(8)


def truncate(source: random.Random, data: bytearray, _: bytes) -> None:
    boundary = source.choice(
        [0, 32, PAGE, PAGE + STRIDE, PAGE + LAYOUT.row_header, PAGE + LAYOUT.offsets[1], len(data)]
    )
    boundary += source.choice([0, source.randrange(ROWS) * STRIDE]) + source.randrange(-2, 3)
    del data[max(0, boundary) :]


def truncate_anywhere(source: random.Random, data: bytearray, _: bytes) -> None:
    del data[source.randrange(len(data)) :]


def swap_rows(source: random.Random, data: bytearray, _: bytes) -> None:
    one, two = (PAGE + row * STRIDE for row in source.sample(range(ROWS), 2))
    data[one : one + STRIDE], data[two : two + STRIDE] = data[two : two + STRIDE], data[one : one + STRIDE]


def repeat_a_row(source: random.Random, data: bytearray, _: bytes) -> None:
    one, two = (PAGE + row * STRIDE for row in source.sample(range(ROWS + 1), 2))
    data[two : two + STRIDE] = data[one : one + STRIDE]


def put_in_a_row_of_another_file(source: random.Random, data: bytearray, other: bytes) -> None:
    start = PAGE + source.randrange(ROWS) * STRIDE
    data[start : start + STRIDE] = other[start : start + STRIDE]


def put_in_part_of_another_file(source: random.Random, data: bytearray, other: bytes) -> None:
    start = source.randrange(len(data))
    stop = start + source.choice([16, 64, 512, STRIDE])
    data[start:stop] = other[start:stop]


def take_the_header_of_another_file(source: random.Random, data: bytearray, other: bytes) -> None:
    data[: source.choice([32, PAGE])] = other[: source.choice([32, PAGE])]


def zero_a_page(source: random.Random, data: bytearray, _: bytes) -> None:
    size = source.choice([512, PAGE, 2 * PAGE])
    start = source.randrange(0, len(data), size)
    data[start : start + size] = bytes(len(data[start : start + size]))


def append_garbage(source: random.Random, data: bytearray, other: bytes) -> None:
    data += source.choice(
        [source.randbytes(source.randrange(1, 3 * STRIDE)), bytes(STRIDE), other[-STRIDE:], bytes(data)]
    )


def write_half_a_row(source: random.Random, data: bytearray, other: bytes) -> None:
    start = PAGE + source.randrange(ROWS) * STRIDE
    middle = start + source.choice([LAYOUT.row_header, *LAYOUT.offsets, source.randrange(STRIDE)])
    data[middle : start + STRIDE] = source.choice([bytes(start + STRIDE - middle), other[middle : start + STRIDE]])


def replace_everything(source: random.Random, data: bytearray, _: bytes) -> None:
    data[:] = source.choice([b"", source.randbytes(len(data)), bytes(len(data)), b"SQLite format 3\0" * 999])


HARMS: list[Harm] = [
    *[flip_bits, flip_one_bit_that_counts, flip_a_bit_of_the_file_header, truncate, truncate_anywhere],
    *[swap_rows, repeat_a_row, put_in_a_row_of_another_file, put_in_part_of_another_file],
    *[take_the_header_of_another_file, zero_a_page, append_garbage, write_half_a_row, replace_everything],
]


# --- what a careful reader is served ---------------------------------------------------------------------------------


def served(path: Path, ids: Sequence[int], *, writable: bool) -> list[Row]:
    """Rows of the tokens `ids` that every check of the document lets through, from the first on."""
    file = ChunkFile.open(path, writable=writable)
    try:
        if Fingerprint.of(file.header.fingerprint).digest != FINGERPRINT.digest or file.header.branch != path.stem:
            return []
        return _rows(file, ids)
    finally:
        file.close()


def _rows(file: ChunkFile, ids: Sequence[int]) -> list[Row]:
    rows, link = list[Row](), FINGERPRINT.digest
    for index in range(file.rows):
        try:
            row = file.row_header(index)
            sections = read_row(file, index)
            assert [_section(file, layer, row, index) for layer in range(len(SECTIONS))] == sections
        except RowDamaged as damage:
            assert damage.row == index
            break
        wanted = tuple(ids[index * CHUNK : (index + 1) * CHUNK])
        if row.ids != wanted or row.parent != link or row.chain != extend(link, row.ids):
            break
        rows.append((row, sections))
        link = row.chain
    return rows


def _section(file: ChunkFile, layer: int, row: RowHeader, index: int) -> bytes:
    buffer = bytearray(SECTIONS[layer])
    file.read_sections(layer, index, 1, memoryview(buffer), [row.sums[layer]])
    return bytes(buffer)


def harmed(harm: Harm, original: bytes, other: bytes, count: int) -> Iterator[tuple[int, bytearray]]:
    """`count` files that differ from the original, each with the seed that made it."""
    seeds = itertools.count()
    while count:
        seed, data = next(seeds), bytearray(original)
        harm(random.Random(seed), data, other)
        if data != original:
            count -= 1
            yield seed, data


def untouched(data: bytes, original: bytes) -> int:
    """Rows from the first on whose bytes are as they were; 0 when the file's header is not."""
    if data[:PAGE] != original[:PAGE]:
        return 0
    ends = range(PAGE, len(original), STRIDE)
    same = (data[end : end + STRIDE] == original[end : end + STRIDE] for end in ends)
    return next((index for index, equal in enumerate(same) if not equal), ROWS)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_damaged_chunk_file_never_serves_another_row(harm: Harm, tmp_path: Path) -> None:
    path, other = tmp_path / "0123456789abcdef.kv", tmp_path / "fedcba9876543210.kv"
    written = write_file(path, ROWS)
    write_file(other, ROWS, seed=1)
    original, foreign = path.read_bytes(), other.read_bytes()
    ids = [number for row, _ in written for number in row.ids]
    for seed, data in harmed(harm, original, foreign, 600):
        path.write_bytes(data)
        try:
            rows = served(path, ids, writable=seed % 2 == 0)
        except DamagedFile:
            rows = []
        assert rows == written[: len(rows)], seed
        assert len(rows) >= untouched(data, original), seed


def harm_a_tail(source: random.Random, data: bytearray, other: bytes) -> None:
    start = source.randrange(len(data))
    stop = min(len(data), start + source.choice([1, 8, 64, 256]))
    match source.randrange(5):
        case 0:
            data[start] ^= 1 << source.randrange(8)
        case 1:
            del data[start:]
        case 2:
            data += source.randbytes(source.randrange(1, 40))
        case 3:
            data[start:stop] = bytes(stop - start)
        case 4:
            data[start:stop] = other[start:stop]


def test_a_damaged_tail_file_is_refused() -> None:
    tail = Tail(FINGERPRINT.digest, "0123456789abcdef", 3, (7, 8, 9), (5, 6, 7), True, b'{"seen": 1}\n', bytes(300))
    other = replace(tail, branch="fedcba9876543210", ids=(1, 2, 3), state=b'{"seen": 2}\n', payload=bytes([7] * 300))
    original = b"".join(pack(tail))
    assert unpack(original) == tail
    for seed, data in harmed(harm_a_tail, original, b"".join(pack(other)), 1_400):
        with pytest.raises(DamagedFile):
            pytest.fail(f"{seed}: {unpack(data)}")


# --- the same through the disk tier ----------------------------------------------------------------------------------


def open_tier(folder: Path) -> DiskTier:
    shapes = [[1, 2]] * len(SECTIONS)
    return DiskTier(KvFolder.open(folder), FINGERPRINT, LAYOUT, make_header().codec, shapes, quota=1 << 30, reserve=0)


def fill_tier(tier: DiskTier, conversation: str, seed: int) -> list[Row]:
    """A branch of `ROWS` rows and what is in it."""
    source, branch, written = random.Random(seed), tier.fork(conversation, None, 0), list[Row]()
    for number in range(ROWS):
        row, sections = make_row(source, number, bytes(32))
        header = tier.append(branch, ids=row.ids, positions=row.positions, exact=row.exact, sections=sections)
        written.append((header, sections))
    return written


def found(tier: DiskTier, ids: Sequence[int]) -> list[Row]:
    """What the tier serves of a conversation's tokens, row by row until one is damaged."""
    result, rows = tier.find("one", ids), list[Row]()
    for number in range(result.rows):
        assert result.branch is not None
        buffer = bytearray(STRIDE)
        try:
            tier.read_rows(result.branch, number, 1, memoryview(buffer))
        except RowDamaged as damage:
            tier.drop_from(result.branch, damage.row, damage.why)
            break
        rows.append((result.branch.headers[number], cut(buffer, LAYOUT)))
    return rows


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_the_disk_tier_serves_what_was_written_or_a_miss_and_takes_new_rows_after_that(
    harm: Harm, tmp_path: Path
) -> None:
    pristine = tmp_path / "pristine"
    tier = open_tier(pristine)
    written = fill_tier(tier, "one", 1)
    other = fill_tier(tier, "two", 2)
    tier.close()
    ids = [number for row, _ in written for number in row.ids]
    foreign = next((pristine / "two").glob("*.kv")).read_bytes()
    original = next((pristine / "one").glob("*.kv")).read_bytes()
    for seed, data in harmed(harm, original, foreign, 15):
        folder = tmp_path / "kv"
        shutil.copytree(pristine, folder)
        next((folder / "one").glob("*.kv")).write_bytes(data)
        tier = open_tier(folder)
        rows = found(tier, ids)
        assert rows == written[: len(rows)], seed
        assert found(tier, ids) == rows, "the second time as the first"
        result = tier.find("one", ids)
        branch = tier.fork("one", result.branch, result.rows)
        for row, sections in written[branch.rows :]:
            tier.append(branch, ids=row.ids, positions=row.positions, exact=row.exact, sections=sections)
        assert found(tier, ids) == written, "what was lost is stored again"
        assert tier.find("two", [number for row, _ in other for number in row.ids]).rows == ROWS
        tier.close()
        shutil.rmtree(folder)
