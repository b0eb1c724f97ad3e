"""A fork that was not opened yet gets a branch that builds on its origin's rows: a header, without a row of its own."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from memory.block import CHUNK, chain
from memory.chunkfile import ChunkFile
from memory.errors import DamagedFile
from memory.folder import TAIL, KvFolder, chunks_of, make_private
from memory.index import BranchRow
from memory.publish import publish
from memory.tailfile import Tail, pack, unpack


def claim(folder: KvFolder, heir: str, origin: str, ids: Sequence[int]) -> None:
    """Let `heir`, whose text is `ids`, build on the rows of `origin` that it begins with, under every fingerprint.

    Nothing happens where it has them already.

    Raises:
        OSError: it could not be written; what was is swept.
    """
    index = folder.index
    for root in dict.fromkeys(row.fingerprint for row in index.branches(origin)):
        links = chain(root, ids)
        there, here = (index.matching(name, root, links)[:1] for name in (origin, heir))
        branch, rows = there[0]
        if not here or rows > here[0][1]:
            with suppress(DamagedFile, FileNotFoundError):  # then there is nothing to begin with
                _build_on(folder, heir, branch, rows, ids)


def _build_on(folder: KvFolder, heir: str, branch: str, rows: int, ids: Sequence[int]) -> None:
    row = nearest = folder.index.branch(branch)
    while row is not None and row.parent and rows <= row.first_row:  # the row before lies further up
        row = folder.index.branch(row.parent)
    tail = None if nearest is None else _tail(folder, nearest, rows, ids)
    if row is None or not (rows or tail):
        return
    path = _begin(folder, heir, row, rows)
    if tail is not None:
        publish(path.with_suffix(TAIL), pack(replace(tail, branch=path.stem)), durable=False)


def _begin(folder: KvFolder, heir: str, holder: BranchRow, rows: int) -> Path:
    """A file without rows after the first `rows` rows of `holder`, known to the index."""
    lender = ChunkFile.open(folder.chunks(holder))
    lender.close()
    name, parent = secrets.token_hex(8), holder.branch if rows else None
    header = replace(
        lender.header, conversation=heir, branch=name, parent=[parent, rows] if rows else None, first_row=rows
    )
    path = chunks_of(folder.path, heir, name)
    make_private(path.parent)
    made = ChunkFile.create(path, header)
    mine = BranchRow(name, heir, holder.fingerprint, parent, rows, rows, rows, made.size, 0)
    made.close()
    folder.index.put(mine, header.fingerprint, [])
    return path


def _tail(folder: KvFolder, row: BranchRow, rows: int, ids: Sequence[int]) -> Tail | None:
    """The open chunk of a branch, if it follows these rows and all of it is the heir's text."""
    with suppress(FileNotFoundError, DamagedFile):
        tail = unpack(folder.chunks(row).with_suffix(TAIL).read_bytes())
        if tail.rows == rows and list(tail.ids) == list(ids[rows * CHUNK : rows * CHUNK + len(tail.ids)]):
            return tail
    return None
