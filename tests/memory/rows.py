"""Chunk files of tiny rows with known contents, for tests of the file alone (no tensors)."""

from __future__ import annotations

import random
from pathlib import Path

from memory.block import CHUNK, extend
from memory.chunkfile import ChunkFile, FileHeader, Layout, RowHeader
from memory.fingerprint import Fingerprint

SECTIONS = (200, 72, 128)
LAYOUT = Layout(SECTIONS)
FINGERPRINT = Fingerprint.of({"weights": "w", "codec": "int8"})
KEEP = FINGERPRINT.digest.hex()
"""What of them a sweep keeps."""


def make_header(branch: str = "0123456789abcdef", **fields: object) -> FileHeader:
    """The header of a file with the sections of `SECTIONS`."""
    known: dict[str, object] = {
        "fingerprint": FINGERPRINT.to_dict(),
        "codec": ["int8"] * len(SECTIONS),
        "layers": [[1, 2]] * len(SECTIONS),
        "sections": list(SECTIONS),
        "conversation": "c",
        "branch": branch,
    }
    return FileHeader(**(known | fields))  # type: ignore[arg-type]


def make_row(source: random.Random, number: int, parent: bytes) -> tuple[RowHeader, list[bytes]]:
    """A row (without checksums) and its sections."""
    ids = tuple(source.randrange(2**32) for _ in range(CHUNK))
    places = tuple(source.randrange(-(2**31), 2**31) for _ in range(CHUNK))
    row = RowHeader(number, extend(parent, ids), parent, ids, places, source.random() < 0.5)
    return row, [source.randbytes(size) for size in SECTIONS]


def write_file(path: Path, rows: int, seed: int = 0, first_row: int = 0) -> list[tuple[RowHeader, list[bytes]]]:
    """A file of `rows` chained rows; the headers as written, and the sections."""
    source, parent, written = random.Random(seed), FINGERPRINT.digest, list[tuple[RowHeader, list[bytes]]]()
    file = ChunkFile.create(path, make_header(path.stem, first_row=first_row))
    for number in range(first_row, first_row + rows):
        row, sections = make_row(source, number, parent)
        written.append((file.append(row, sections), sections))
        parent = row.chain
    file.close()
    return written


def read_row(file: ChunkFile, index: int) -> list[bytes]:
    """The sections of the file's row `index`, read as a whole row, verified."""
    buffer = bytearray(file.layout.stride)
    file.read_rows(index, 1, memoryview(buffer))
    return cut(buffer, file.layout)


def cut(row: bytes | bytearray, layout: Layout) -> list[bytes]:
    """The sections of a whole row."""
    places = zip(layout.offsets, layout.sections, strict=True)
    return [bytes(row[offset : offset + size]) for offset, size in places]
