"""How much of a conversation's KV lies on disk, for whoever asks beside the process that writes it. Torch-free."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from memory.block import CHUNK
from memory.database import DatabaseError
from memory.errors import DamagedFile
from memory.folder import INDEX_FILE, TAIL, place_of
from memory.index import BranchRow, look
from memory.tailfile import unpack


def stored_tokens(root: Path, conversation: str, fingerprint: bytes | None = None) -> int:
    """Tokens from the beginning of a conversation that are stored under `root`; its longest branch counts.

    `fingerprint`: only what was stored under this one, which others cannot use.
    """
    branches = dict[str, BranchRow]()
    with suppress(DatabaseError):
        branches = {row.branch: row for row in look(root / INDEX_FILE, conversation)}
    usable = {name: row.rows for name, row in branches.items() if fingerprint in (None, row.fingerprint)}
    found = [CHUNK * rows for rows in usable.values()]
    for path in place_of(root, conversation).glob(f"*{TAIL}"):
        if path.stem in usable or (fingerprint is None and path.stem not in branches):
            found.append(_up_to(path))
    return max(found, default=0)


def _up_to(path: Path) -> int:
    """Tokens up to the end of an open chunk; 0 where it cannot be read."""
    with suppress(OSError, DamagedFile):
        tail = unpack(path.read_bytes())
        return CHUNK * tail.rows + len(tail.ids)
    return 0
