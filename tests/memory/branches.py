"""Conversations of tiny rows in a KV folder, for tests of the disk tier, the folder and its sweep (no tensors)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from memory.block import CHUNK
from memory.chunkfile import PAGE
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.tailfile import Tail
from memory.tier.disk import Branch, DiskTier
from tests.memory.rows import FINGERPRINT, LAYOUT, SECTIONS, cut, make_header

STRIDE = LAYOUT.stride
POSITIONS = tuple(range(CHUNK))


def open_tier(path: Path, quota: int = 1 << 30, fingerprint: Fingerprint = FINGERPRINT) -> DiskTier:
    """The tier of a folder, opened."""
    return DiskTier(KvFolder.open(path), fingerprint, LAYOUT, make_header().codec, [[1, 2]] * 3, quota, reserve=0)


def reopened(tier: DiskTier) -> DiskTier:
    """The same folder after a restart."""
    tier.close()
    return open_tier(tier.folder.path)


def text(seed: int, rows: int, begin: Sequence[int] = ()) -> list[int]:
    """Token ids of `rows` rows, the first ones being `begin`."""
    source = random.Random(seed)
    return [*begin, *(source.randrange(1 << 20) for _ in range(rows * CHUNK - len(begin)))]


def sections(ids: Sequence[int]) -> list[bytes]:
    """What is stored of a row: it depends on every token up to its end, as KV does."""
    source = random.Random(repr(list(ids)))
    return [source.randbytes(size) for size in SECTIONS]


def add_rows(tier: DiskTier, branch: Branch, ids: Sequence[int]) -> Branch:
    """Append the whole rows of `ids` that the branch has not got yet."""
    for end in range((branch.rows + 1) * CHUNK, len(ids) + 1, CHUNK):
        row = ids[end - CHUNK : end]
        tier.append(branch, ids=row, positions=POSITIONS, exact=True, sections=sections(ids[:end]))
    return branch


def store(tier: DiskTier, conversation: str, ids: Sequence[int], origins: Sequence[str] = ()) -> Branch:
    """As a turn does it: what is found is kept, the rest is appended, the open chunk is written."""
    found = tier.find(conversation, ids, origins)
    branch = add_rows(tier, tier.fork(conversation, found.branch, found.rows), ids)
    tier.put_tail(branch, make_tail(branch, ids))
    return branch


def make_tail(branch: Branch, ids: Sequence[int]) -> Tail:
    """The open chunk after the whole rows of `ids`."""
    open_ids = tuple(ids[branch.rows * CHUNK :])
    places = POSITIONS[: len(open_ids)]
    return Tail(FINGERPRINT.digest, branch.name, branch.rows, open_ids, places, True, b"state", b"".join(sections(ids)))


def served(tier: DiskTier, conversation: str, ids: Sequence[int], origins: Sequence[str] = ()) -> int:
    """Tokens of `ids` that the tier serves; every row and section of them is compared with what was written."""
    found = tier.find(conversation, ids, origins)
    for number in range(found.rows):
        assert found.branch is not None
        expected = sections(ids[: (number + 1) * CHUNK])
        row = bytearray(STRIDE)
        tier.read_rows(found.branch, number, 1, memoryview(row))
        assert cut(row, LAYOUT) == expected
        for layer, size in enumerate(SECTIONS):
            section = bytearray(size)
            tier.read_sections(found.branch, layer, number, 1, memoryview(section))
            assert section == expected[layer]
    tail, done = found.tail, found.rows * CHUNK
    if tail is None or tail.rows != found.rows or list(tail.ids) != list(ids[done : done + len(tail.ids)]):
        return done
    assert tail.payload == b"".join(sections(ids[: done + len(tail.ids)]))
    return done + len(tail.ids)


def own_rows(tier: DiskTier, conversation: str) -> int:
    """Rows that lie in a conversation's own folder, by the sizes of its files."""
    files = tier.folder.conversation(conversation).glob("*.kv")
    return sum((path.stat().st_size - PAGE) // STRIDE for path in files)


def flip(path: Path, offset: int) -> None:
    """Damage one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def everything(root: Path) -> Iterable[Path]:
    """Every file under `root`."""
    return (path for path in root.rglob("*") if path.is_file())
