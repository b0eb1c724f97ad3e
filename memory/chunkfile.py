"""The chunk file: a header, then rows at a fixed stride, only ever appended. `docs/format.md` describes every byte.

A row is the same 64 tokens over all layers, so that one read fetches it. Its header names the tokens, their chained
ids and a checksum of every section; the row's own checksum covers all of that, so a row and a single layer's section
can both be verified. Row headers stand at a fixed stride: they are the directory. Nothing here knows of tensors.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from memory.block import CHUNK, pack_ids
from memory.errors import DamagedFile, ForeignVersion, RowDamaged
from memory.publish import publish

MAGIC = b"KVCHUNK\n"
VERSION = 1
PAGE = 4096
_ALIGN = 64
_SUM = 16
_FILE_HEAD = struct.Struct("<8sII16s")
_ROW_HEAD = struct.Struct("<4sIQII32s32s")
_ROW_MAGIC = b"ROW\n"
_EXACT = 1
_LONGEST_HEADER = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in a row whose layers take `sections` bytes."""

    sections: tuple[int, ...]
    row_header: int = field(init=False)
    stride: int = field(init=False)
    offsets: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Sections start at multiples of 64 bytes, rows at multiples of 4 KiB."""
        size = _ROW_HEAD.size + 8 * CHUNK + _SUM * len(self.sections) + _SUM
        object.__setattr__(self, "row_header", size)
        at, offsets = size, list[int]()
        for section in self.sections:
            at = _up(at, _ALIGN)
            offsets.append(at)
            at += section
        object.__setattr__(self, "offsets", tuple(offsets))
        object.__setattr__(self, "stride", _up(at, PAGE))


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a chunk file says of itself. `parent` is (branch, rows taken from it); this file starts at `first_row`."""

    fingerprint: dict[str, str]
    codec: list[str]
    layers: list[list[int]]
    sections: list[int]
    conversation: str
    branch: str
    parent: list[Any] | None = None
    first_row: int = 0
    chunk: int = CHUNK

    def pack(self, least: int = 0) -> bytes:
        """Magic, version, length, checksum, JSON, zeros up to a multiple of 4 KiB and at least to `least` bytes."""
        layout = Layout(tuple(self.sections))
        body = asdict(self) | {"row_header": layout.row_header, "stride": layout.stride}
        text = json.dumps(body, sort_keys=True).encode()
        size = max(_up(_FILE_HEAD.size + len(text), PAGE), least)
        rest = text.ljust(size - _FILE_HEAD.size, b"\0")
        return _FILE_HEAD.pack(MAGIC, VERSION, size, xxhash.xxh3_128_digest(rest)) + rest

    @classmethod
    def unpack(cls, data: bytes) -> FileHeader:
        """The inverse of `pack`.

        Raises:
            ForeignVersion: another format or version.
            DamagedFile: not what was written.
        """
        size = header_size(data)
        rest = data[_FILE_HEAD.size : size]
        if len(data) < size or xxhash.xxh3_128_digest(rest) != data[_FILE_HEAD.size - _SUM : _FILE_HEAD.size]:
            raise DamagedFile("The chunk file's header is damaged.")
        try:
            body = json.loads(rest.rstrip(b"\0"))
            layout = Layout(tuple(body["sections"]))
            if (body.pop("row_header"), body.pop("stride"), body["chunk"]) != (layout.row_header, layout.stride, CHUNK):
                raise ForeignVersion("The chunk file's rows are laid out in another way.")
            return cls(**body)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"The chunk file's header cannot be read ({error}).") from error


@dataclass(frozen=True, slots=True)
class RowHeader:
    """A row's tokens and checksums. `positions`: where the stored keys are rotated; `sums`: one checksum a section."""

    number: int
    chain: bytes
    parent: bytes
    ids: tuple[int, ...]
    positions: tuple[int, ...]
    exact: bool
    sums: tuple[bytes, ...] = ()

    def pack(self) -> bytes:
        """As it lies in the file, its own checksum last."""
        flags = _EXACT if self.exact else 0
        head = _ROW_HEAD.pack(_ROW_MAGIC, len(self.ids), self.number, flags, 0, self.chain, self.parent)
        places = struct.pack(f"<{CHUNK}i", *self.positions)
        body = b"".join((head, pack_ids(self.ids), places, *self.sums))
        return body + xxhash.xxh3_128_digest(body)

    @classmethod
    def unpack(cls, data: bytes | memoryview, number: int, layers: int) -> RowHeader:
        """The header of row `number`.

        Raises:
            RowDamaged: it is not what was written, or another row's.
        """
        size = _ROW_HEAD.size + 8 * CHUNK + _SUM * layers
        body = bytes(data[:size])
        if len(data) < size + _SUM:
            raise RowDamaged(number, "it is cut off")
        if xxhash.xxh3_128_digest(body) != bytes(data[size : size + _SUM]):
            raise RowDamaged(number, "its header's checksum is wrong")
        magic, count, found, flags, _, chain, parent = _ROW_HEAD.unpack_from(body)
        if magic != _ROW_MAGIC or count != CHUNK or found != number:
            raise RowDamaged(number, f"another row ({found}) lies in its place")
        ids = struct.unpack_from(f"<{CHUNK}I", body, _ROW_HEAD.size)
        positions = struct.unpack_from(f"<{CHUNK}i", body, _ROW_HEAD.size + 4 * CHUNK)
        first = _ROW_HEAD.size + 8 * CHUNK
        sums = tuple(body[at : at + _SUM] for at in range(first, size, _SUM))
        return cls(number, chain, parent, ids, positions, bool(flags & _EXACT), sums)


class ChunkFile:
    """An open chunk file. Reads may come from any thread; one thread appends."""

    def __init__(self, path: Path, descriptor: int, header: FileHeader, header_bytes: int, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self.header = header
        self.layout = Layout(tuple(header.sections))
        self._descriptor = descriptor
        self._start = header_bytes

    @classmethod
    def create(cls, path: Path, header: FileHeader) -> ChunkFile:
        """A new file without rows.

        Raises:
            FileExistsError: there is one already.
            OSError: it cannot be written.
        """
        if path.exists():
            raise FileExistsError(f"{path} exists already.")
        publish(path, [header.pack()], durable=False)
        return cls.open(path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> ChunkFile:
        """An existing file; one that is written is cut back to whole rows.

        Raises:
            ForeignVersion: another format or version.
            DamagedFile: the header is not what was written.
            OSError: it cannot be opened.
        """
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            start = header_size(_read(descriptor, 0, _FILE_HEAD.size))
            header = FileHeader.unpack(_read(descriptor, 0, start))
            file = cls(path, descriptor, header, start, writable=writable)
            if writable:
                file.truncate(file.rows)
        except BaseException:
            os.close(descriptor)
            raise
        return file

    @property
    def rows(self) -> int:
        """Whole rows, by the file's size."""
        return max(0, os.fstat(self._descriptor).st_size - self._start) // self.layout.stride

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._descriptor).st_size

    def raw_row(self, index: int) -> bytes:
        """A row as it lies there, unverified."""
        return _read(self._descriptor, self._start + index * self.layout.stride, self.layout.stride)

    def append(self, row: RowHeader, sections: Sequence[bytes | memoryview]) -> RowHeader:
        """Add a row (its `sums` are computed here) after the last one; the header as written.

        Raises:
            OSError: it could not be written, or is not the next one; the file ends at the last whole row.
            ValueError: a section has not the size that the file's header promises.
        """
        if tuple(len(section) for section in sections) != self.layout.sections:
            raise ValueError("A section has another size than the chunk file's header says.")
        sums = tuple(xxhash.xxh3_128_digest(section) for section in sections)
        whole = RowHeader(row.number, row.chain, row.parent, row.ids, row.positions, row.exact, sums)
        rows = self.rows
        if row.number != self.header.first_row + rows:
            raise OSError(errno.ESTALE, f"row {self.header.first_row + rows} comes next, not row {row.number}")
        try:
            self._write(self._start + rows * self.layout.stride, self._pieces(whole, sections))
        except BaseException:
            self.truncate(rows)
            raise
        return whole

    def row_header(self, index: int) -> RowHeader:
        """The verified header of the file's row `index` (its number is `first_row` + `index`).

        Raises:
            RowDamaged: it is not what was written.
        """
        data = _read(self._descriptor, self._start + index * self.layout.stride, self.layout.row_header)
        return RowHeader.unpack(data, self.header.first_row + index, len(self.layout.sections))

    def read_rows(self, index: int, count: int, into: memoryview) -> None:
        """Rows from `index` on into `into` (`count` x stride bytes), in one read, each verified.

        Raises:
            RowDamaged: one is not what was written.
            OSError: the disk failed.
        """
        stride, first = self.layout.stride, self.header.first_row + index
        got = _read_into(self._descriptor, into[: count * stride], self._start + index * stride)
        for at in range(count):
            row = into[at * stride : (at + 1) * stride]
            if got < (at + 1) * stride:
                raise RowDamaged(first + at, "it is cut off")
            self._verify(row, first + at)

    def read_sections(self, layer: int, index: int, count: int, into: memoryview, sums: Sequence[bytes]) -> None:
        """The sections of one layer, tightly packed, verified by `sums` (from headers that were verified).

        Raises:
            RowDamaged: one is not what was written.
            OSError: the disk failed.
        """
        size, stride = self.layout.sections[layer], self.layout.stride
        offset = self._start + self.layout.offsets[layer]
        for at in range(count):
            piece = into[at * size : (at + 1) * size]
            got = _read_into(self._descriptor, piece, offset + (index + at) * stride)
            if got < size or xxhash.xxh3_128_digest(piece) != sums[at]:
                raise RowDamaged(self.header.first_row + index + at, f"the checksum of layer {layer} is wrong")

    def expect_sections(self, layer: int, index: int, count: int) -> None:
        """The same sections will be read soon: where the system takes such hints it begins to fetch them."""
        start = self._start + self.layout.offsets[layer]
        for at in range(index, index + count):
            _expect(self._descriptor, start + at * self.layout.stride, self.layout.sections[layer])

    def give(self, conversation: str) -> None:
        """Rewrite the header, in its place: the rows belong to another conversation now.

        Raises:
            DamagedFile: the header has no room for that name.
            OSError: it could not be written.
        """
        header = replace(self.header, conversation=conversation)
        if len(packed := header.pack(self._start)) != self._start:
            raise DamagedFile("The chunk file's header has no room for another conversation's name.")
        self._write(0, [packed])
        self.header = header

    def truncate(self, rows: int) -> None:
        """Cut everything after the first `rows` rows."""
        os.ftruncate(self._descriptor, self._start + rows * self.layout.stride)

    def sync(self) -> None:
        """Make what was appended survive power loss."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def _pieces(self, row: RowHeader, sections: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
        """The bytes of a row, with the zeros between its parts."""
        pieces: list[bytes | memoryview] = [row.pack()]
        at = self.layout.row_header
        for offset, section in zip(self.layout.offsets, sections, strict=True):
            pieces += [b"\0" * (offset - at), section]
            at = offset + len(section)
        return [piece for piece in [*pieces, b"\0" * (self.layout.stride - at)] if len(piece)]

    def _write(self, offset: int, pieces: Sequence[bytes | memoryview]) -> None:
        row = memoryview(b"".join(pieces))
        while row:
            written = os.pwrite(self._descriptor, row, offset)
            row, offset = row[written:], offset + written

    def _verify(self, row: memoryview, number: int) -> None:
        header = RowHeader.unpack(row[: self.layout.row_header], number, len(self.layout.sections))
        for layer, (offset, size) in enumerate(zip(self.layout.offsets, self.layout.sections, strict=True)):
            if xxhash.xxh3_128_digest(row[offset : offset + size]) != header.sums[layer]:
                raise RowDamaged(number, f"the checksum of layer {layer} is wrong")


def header_size(data: bytes) -> int:
    """Bytes of the file header that begins with `data`.

    Raises:
        ForeignVersion: another format or version.
        DamagedFile: too short, or a length that cannot be.
    """
    if len(data) < _FILE_HEAD.size:
        raise DamagedFile("The chunk file is too short.")
    magic, version, size, _ = _FILE_HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise ForeignVersion(f"The chunk file is of another format (version {version}, {VERSION} is known).")
    if not _FILE_HEAD.size < size <= _LONGEST_HEADER or size % PAGE:
        raise DamagedFile("The chunk file's header has an impossible length.")
    return int(size)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    got = _read_into(descriptor, memoryview(buffer), offset)
    return bytes(buffer[:got])


def _read_into(descriptor: int, into: memoryview, offset: int) -> int:
    """Fill `into` from `offset` on as far as the file goes; how many bytes that were."""
    done = 0
    while done < len(into) and (got := os.preadv(descriptor, [into[done:]], offset + done)):
        done += got
    return done


def _expect(descriptor: int, offset: int, size: int) -> None:
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
