"""Chunk files: rows come back as written, by row and by layer; failures leave whole rows; other formats are refused."""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from memory.chunkfile import PAGE, ChunkFile, FileHeader, Layout
from memory.errors import DamagedFile, ForeignVersion, RowDamaged
from tests.memory.failing import failing
from tests.memory.rows import FINGERPRINT, LAYOUT, SECTIONS, cut, make_header, make_row, read_row, write_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0123456789abcdef.kv"


@pytest.fixture
def file(path: Path) -> Iterator[ChunkFile]:
    """A writable file of four rows; what is in them is `write_file(..., 4)`."""
    write_file(path, 4)
    opened = ChunkFile.open(path, writable=True)
    yield opened
    opened.close()


# --- layout and header -----------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_the_document() -> None:
    layout = Layout((26_496,) * 30)
    assert (layout.row_header, layout.offsets[0], layout.offsets[1], layout.stride) == (1_096, 1_152, 27_648, 798_720)


def test_sections_lie_at_multiples_of_64_and_rows_at_multiples_of_a_page() -> None:
    assert all(offset % 64 == 0 for offset in LAYOUT.offsets)
    assert LAYOUT.stride % PAGE == 0
    ends = [offset + size for offset, size in zip(LAYOUT.offsets, SECTIONS, strict=True)]
    assert LAYOUT.row_header <= LAYOUT.offsets[0]
    assert all(end <= offset for end, offset in zip(ends, [*LAYOUT.offsets[1:], LAYOUT.stride], strict=True))


@pytest.mark.parametrize("name", ["short", "ü" * 3000])
def test_a_header_comes_back_as_it_was(name: str) -> None:
    header = make_header(conversation=name, parent=["fedcba9876543210", 7], first_row=7)
    data = header.pack()
    assert len(data) % PAGE == 0
    assert FileHeader.unpack(data) == header


@pytest.mark.parametrize(("offset", "value"), [(0, b"KVCHUNK\r"), (8, struct.pack("<I", 2)), (8, bytes(4))])
def test_another_format_is_refused(path: Path, offset: int, value: bytes) -> None:
    write_file(path, 1)
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(ForeignVersion, match="another format"):
        ChunkFile.open(path)


def test_chunks_of_another_length_are_another_format() -> None:
    with pytest.raises(ForeignVersion, match="another way"):
        FileHeader.unpack(make_header(chunk=32).pack())


@pytest.mark.parametrize("text", [b"{}", b"[]", b"7", b"\xff", b'{"sections": 3}', b'{"sections": ["x"]}', b""])
def test_a_header_that_makes_no_sense_is_damaged_even_with_a_right_checksum(text: bytes) -> None:
    rest = text.ljust(PAGE - 32, b"\0")
    data = struct.pack("<8sII16s", b"KVCHUNK\n", 1, PAGE, xxhash.xxh3_128_digest(rest)) + rest
    with pytest.raises(DamagedFile):
        FileHeader.unpack(data)


@pytest.mark.parametrize("size", [0, 32, PAGE - 1, PAGE + 1, 2 * PAGE, 2**32 - PAGE])
def test_an_impossible_header_length_is_damage(path: Path, size: int) -> None:
    write_file(path, 0)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 12, size)
    path.write_bytes(data)
    with pytest.raises(DamagedFile):
        ChunkFile.open(path)


@pytest.mark.parametrize("size", [0, 8, 31, 32, PAGE - 1])
def test_a_header_that_is_cut_off_is_damage(path: Path, size: int) -> None:
    write_file(path, 0)
    os.truncate(path, size)
    with pytest.raises(DamagedFile):
        ChunkFile.open(path)


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_new_file_is_private_and_never_takes_the_place_of_another(path: Path) -> None:
    before = os.umask(0)
    try:
        write_file(path, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        ChunkFile.create(path, make_header())
    assert path.stat().st_size == PAGE + LAYOUT.stride


@pytest.mark.parametrize("first_row", [0, 9])
def test_rows_come_back_as_written(path: Path, first_row: int) -> None:
    written = write_file(path, 5, first_row=first_row)
    file = ChunkFile.open(path)
    assert (file.rows, file.size) == (5, PAGE + 5 * LAYOUT.stride)
    for index, (row, sections) in enumerate(written):
        assert file.row_header(index) == row
        assert read_row(file, index) == sections
    file.close()


def test_many_rows_are_read_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_file(path, 6)
    file, buffer = ChunkFile.open(path), bytearray(4 * LAYOUT.stride)
    with failing(monkeypatch, "preadv", 0, 0) as calls:
        file.read_rows(1, 4, memoryview(buffer))
    assert calls.count == 1
    rows = [buffer[at : at + LAYOUT.stride] for at in range(0, len(buffer), LAYOUT.stride)]
    assert [cut(row, LAYOUT) for row in rows] == [sections for _, sections in written[1:5]]
    file.close()


def test_one_layer_of_many_rows_is_read_tightly_packed(path: Path) -> None:
    written = write_file(path, 5)
    file = ChunkFile.open(path)
    for layer, size in enumerate(SECTIONS):
        buffer = bytearray(3 * size)
        file.read_sections(layer, 2, 3, memoryview(buffer), [row.sums[layer] for row, _ in written[2:]])
        assert buffer == b"".join(sections[layer] for _, sections in written[2:])
    file.close()


def test_a_section_of_another_row_is_not_served(file: ChunkFile) -> None:
    sums = [file.row_header(2).sums[0], file.row_header(1).sums[0]]
    with pytest.raises(RowDamaged, match="layer 0") as caught:
        file.read_sections(0, 2, 2, memoryview(bytearray(2 * SECTIONS[0])), sums)
    assert caught.value.row == 3


def test_rows_past_the_end_are_damaged_not_empty(file: ChunkFile) -> None:
    with pytest.raises(RowDamaged, match="cut off") as caught:
        file.read_rows(3, 2, memoryview(bytearray(2 * LAYOUT.stride)))
    assert caught.value.row == 4
    with pytest.raises(RowDamaged):
        file.row_header(4)


def test_a_row_that_was_not_written_whole_is_ignored_and_cut_off_before_writing(path: Path) -> None:
    write_file(path, 3)
    os.truncate(path, path.stat().st_size - 1)
    reader = ChunkFile.open(path)
    assert reader.rows == 2
    reader.close()
    assert path.stat().st_size == PAGE + 3 * LAYOUT.stride - 1
    writer = ChunkFile.open(path, writable=True)
    assert writer.size == PAGE + 2 * LAYOUT.stride
    writer.close()


def test_rows_can_be_cut_and_written_again(file: ChunkFile) -> None:
    before = file.row_header(1)
    file.truncate(2)
    row, sections = make_row(random.Random(5), 2, before.chain)
    written = file.append(row, sections)
    assert file.rows == 3
    assert file.row_header(2) == written
    assert read_row(file, 2) == sections


def test_only_the_next_row_and_only_sections_of_the_right_size_are_taken(file: ChunkFile) -> None:
    row, sections = make_row(random.Random(5), 4, bytes(32))
    with pytest.raises(OSError, match="row 4 comes next, not row 5"):
        file.append(replace(row, number=5), sections)
    for wrong in (sections[:-1], [*sections, b""], [sections[0][:-1], *sections[1:]]):
        with pytest.raises(ValueError, match="another size"):
            file.append(row, wrong)
    assert file.size == PAGE + 4 * LAYOUT.stride


# --- a disk that fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("cutting_fails", [False, True])
def test_a_write_that_fails_leaves_whole_rows_and_the_next_one_works(
    file: ChunkFile, monkeypatch: pytest.MonkeyPatch, number: int, nth: int, cutting_fails: bool
) -> None:
    before = [read_row(file, index) for index in range(4)]
    row, sections = make_row(random.Random(5), 4, file.row_header(3).chain)
    with (
        failing(monkeypatch, "ftruncate", 1 if cutting_fails else 0, errno.EIO),
        failing(monkeypatch, "pwrite", nth, number, short=1500),
        pytest.raises(OSError, match=r"Errno"),
    ):
        file.append(row, sections)
    assert file.rows == 4
    assert cutting_fails or file.size == PAGE + 4 * LAYOUT.stride
    file.append(row, sections)
    assert [read_row(file, index) for index in range(5)] == [*before, sections]


def test_a_system_that_takes_few_bytes_at_a_time_gets_the_whole_row(
    file: ChunkFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, sections = make_row(random.Random(5), 4, file.row_header(3).chain)
    with failing(monkeypatch, "pwrite", 0, 0, short=1000):
        file.append(row, sections)
    assert read_row(file, 4) == sections


def test_an_error_of_the_disk_while_reading_is_told_as_such(file: ChunkFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "preadv", 1, errno.EIO), pytest.raises(OSError, match="Input/output"):
        file.read_rows(0, 1, memoryview(bytearray(LAYOUT.stride)))
    assert read_row(file, 0)


@pytest.mark.parametrize("name", ["open", "preadv", "ftruncate"])
def test_a_file_that_cannot_be_opened_leaks_no_descriptor(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_file(path, 1)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with failing(monkeypatch, name, 1, errno.EMFILE), pytest.raises(OSError, match="Too many open files"):
        ChunkFile.open(path, writable=True)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_creating_a_file_fails_without_a_trace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "write", 1, errno.ENOSPC), pytest.raises(OSError, match="No space"):
        ChunkFile.create(path, make_header())
    assert not list(path.parent.iterdir())


def test_rows_are_synced_on_request(file: ChunkFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, "fsync", 0, 0) as calls:
        file.sync()
    assert calls.count == 1
    assert file.header.fingerprint == FINGERPRINT.to_dict()
