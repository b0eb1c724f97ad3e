"""The tail file of a branch: its open chunk, without loss, and what was resident. Replaced whole at the end of a turn.

`docs/format.md` describes it byte by byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from memory.block import CHUNK
from memory.errors import DamagedFile, ForeignVersion

MAGIC = b"KVTAIL\r\n"
VERSION = 1
_HEAD = struct.Struct("<8sII32s16sQIIQQ")
_SUM = 16


@dataclass(frozen=True, slots=True)
class Tail:
    """The tokens after the last sealed row, and an opaque state.

    `rows` sealed rows lie before it; `ids` and `positions` are those of its tokens (fewer than 64); `payload` holds
    the sections of one chunk of every layer in a lossless codec, the last token repeated up to 64.
    """

    fingerprint: bytes
    branch: str
    rows: int
    ids: tuple[int, ...]
    positions: tuple[int, ...]
    exact: bool
    state: bytes
    payload: bytes


def pack(tail: Tail) -> list[bytes]:
    """The file's parts, the checksum last."""
    count = len(tail.ids)
    head = _HEAD.pack(
        MAGIC,
        VERSION,
        _HEAD.size,
        tail.fingerprint,
        tail.branch.encode().ljust(16, b"\0"),
        tail.rows,
        count,
        int(tail.exact),
        len(tail.state),
        len(tail.payload),
    )
    numbers = struct.pack(f"<{count}I{count}i", *tail.ids, *tail.positions)
    parts = [head, numbers, tail.state, tail.payload]
    total = xxhash.xxh3_128()
    for part in parts:
        total.update(part)
    return [*parts, total.digest()]


def unpack(data: bytes | memoryview) -> Tail:
    """The inverse of `pack`.

    Raises:
        ForeignVersion: another format.
        DamagedFile: not what was written.
    """
    view = memoryview(data)
    if len(view) < _HEAD.size + _SUM:
        raise DamagedFile("The tail file is too short.")
    magic, version, size, fingerprint, branch, rows, count, exact, state, payload = _HEAD.unpack_from(view)
    if magic != MAGIC or version != VERSION:
        raise ForeignVersion(f"The tail file is of another format (version {version}, {VERSION} is known).")
    body = view[:-_SUM]
    if xxhash.xxh3_128_digest(body) != bytes(view[-_SUM:]):
        raise DamagedFile("The tail file's checksum is wrong.")
    ends = [size, size + 8 * count, size + 8 * count + state, size + 8 * count + state + payload]
    if size != _HEAD.size or count >= CHUNK or ends[-1] != len(body):
        raise DamagedFile("The tail file's lengths do not add up.")
    numbers = struct.unpack_from(f"<{count}I{count}i", view, size)
    return Tail(
        fingerprint=fingerprint,
        branch=branch.rstrip(b"\0").decode(),
        rows=rows,
        ids=numbers[:count],
        positions=numbers[count:],
        exact=bool(exact),
        state=bytes(body[ends[1] : ends[2]]),
        payload=bytes(body[ends[2] : ends[3]]),
    )
