"""How much each conversation stores by itself, and how much it shares with the one that it was forked from.

Looking takes no lock: another process may be writing meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from memory.chunkfile import ChunkFile
from memory.database import DatabaseError
from memory.errors import DamagedFile
from memory.folder import INDEX_FILE, KvFolder, chunks_of, place_of
from memory.index import BranchRow, look
from memory.lineage import borrowed


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes in a conversation's own folder, and of the rows in others' folders that it uses too."""

    own: int
    shared: int


def stored_by(root: Path) -> dict[str, Shares]:
    """What every conversation in the KV folder `root` stores; nothing where there is no index to ask."""
    try:
        branches = look(root / INDEX_FILE)
    except DatabaseError:
        return {}
    lent, sizes = borrowed(branches), KvFolder.walk(root).conversations
    known = {row.branch: row for row in branches}
    return {
        name: Shares(
            sizes.get(place_of(root, name).name, 0),
            sum(_bytes(root, known[branch], rows) for branch, rows in lent.get(name, {}).items()),
        )
        for name in dict.fromkeys(row.conversation for row in branches)
    }


def _bytes(root: Path, row: BranchRow, rows: int) -> int:
    """Bytes of the branch's own rows before row `rows`; 0 for a file that is gone or damaged."""
    with suppress(OSError, DamagedFile):
        file = ChunkFile.open(chunks_of(root, row.conversation, row.branch))
        try:
            return (rows - row.first_row) * file.layout.stride
        finally:
            file.close()
    return 0
