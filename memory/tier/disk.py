"""The disk tier: branches of chunk files for one fingerprint, found by chained ids and verified by token ids.

Everything here runs on the thread that made it (the I/O thread of `memory.spill`).
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from memory.block import chain, extend
from memory.chunkfile import ChunkFile, FileHeader, RowHeader
from memory.folder import TAIL, chunks_of, make_private
from memory.forgetting import NO_HEIRS, Heirs, forget
from memory.index import BranchRow
from memory.publish import publish
from memory.sweep import sweep
from memory.tailfile import Tail, pack
from memory.tier.branch import Branch, Extent, Found, until
from memory.tier.room import QuotaReached
from memory.tier.stored import StoredBranches

__all__ = ["Branch", "DiskTier", "Found", "QuotaReached"]

CANDIDATES = 6
"""Branches that are looked at for the beginning of a text."""


class DiskTier(StoredBranches):
    """Rows and open chunks on disk, for one fingerprint and one row layout."""

    # --- finding ------------------------------------------------------------------------------------------------------

    def find(self, conversation: str, ids: Sequence[int], origins: Sequence[str] = (), share: bool = False) -> Found:
        """The longest stored beginning of `ids`, whole rows by chained ids *and* token ids, and the open chunk.

        `origins`: the conversations that this one was forked from, whose rows it may begin with; it gets a branch of
        its own that builds on them. `share`: the same for whole rows of any conversation. When the disk fails nothing
        is found, and nothing raised.
        """
        try:
            return self._find(conversation, ids, origins, share)
        except OSError as error:
            return self._miss(f"the disk says {error.strerror or error}", Found())

    def _find(self, conversation: str, ids: Sequence[int], origins: Sequence[str], share: bool) -> Found:
        links = chain(self._root, ids)
        ranked = [pair for name in (conversation, *origins) for pair in self._matching(name, links)]
        if share:
            ranked += [pair for pair in self.folder.index.holding(self._root, links, CANDIDATES) if pair not in ranked]
        if not ranked:
            foreign = next((fields for name in (conversation, *origins) if (fields := self._foreign(name))), ())
            return self._miss("another fingerprint" if foreign else "nothing stored", Found(foreign=foreign))
        candidates = self._candidates(sorted(ranked, key=lambda pair: -pair[1])[:CANDIDATES], ids)
        found = self._owned(conversation, max(candidates, key=lambda found: found.tokens, default=Found()), candidates)
        if found.branch is None:
            return self._miss("nothing sound", found)
        with suppress(OSError):
            self.folder.index.touch(found.branch.name)
        self.counters["rows_found"] += found.rows
        return found if found.rows or found.tail else self._miss("other tokens", found)

    def _owned(self, conversation: str, found: Found, candidates: Sequence[Found]) -> Found:
        """The same rows as a branch of `conversation`, if they are another's: what it builds on is not taken away."""
        if found.branch is None or not found.rows or found.branch.conversation == conversation:
            return found
        for one in candidates:
            if one.branch is not None and one.branch.conversation == conversation and one.rows == found.rows:
                return replace(found, branch=one.branch)
        with suppress(OSError, QuotaReached):
            return replace(found, branch=self.fork(conversation, found.branch, found.rows))
        return found

    # --- writing ------------------------------------------------------------------------------------------------------

    def fork(self, conversation: str, parent: Branch | None, rows: int) -> Branch:
        """Where to go on after the first `rows` rows of `parent`: itself, or a new branch that builds on it, always
        the latter where the parent is another conversation's.

        Raises:
            QuotaReached, OSError: as `append`.
        """
        sound = parent is not None and self._sound(parent)
        if rows > (0 if parent is None else parent.rows):
            raise OSError(errno.ESTALE, "rows before it are not stored any more")
        if parent is not None and sound and parent.rows == rows and parent.conversation == conversation:
            return parent
        branch = Branch(secrets.token_hex(8), conversation)
        if parent is not None and rows:
            branch.headers, branch.extents = parent.headers[:rows], until(parent.extents, rows)
            holder = branch.extents[-1].path.stem
            branch.parent = (holder, rows)
        return self._create(branch)

    def _create(self, branch: Branch) -> Branch:
        """The branch with a file of its own, for the rows behind those that it builds on."""
        path = chunks_of(self.folder.path, branch.conversation, branch.name)
        make_private(path.parent)
        header = self._header(branch)
        self._room.make(len(header.pack()), self.quota, {branch.conversation, *self.in_use}, branch.parent)
        file = ChunkFile.create(path, header)
        self._files.keep(path, file)
        branch.extents.append(Extent(path, branch.rows, branch.rows, branch.rows))
        self._record(branch, header, file.size)
        self._room.used += file.size
        return branch

    def _header(self, branch: Branch) -> FileHeader:
        return FileHeader(
            fingerprint=self.fingerprint.to_dict(),
            codec=self._codec,
            layers=self._shapes,
            sections=list(self.layout.sections),
            conversation=branch.conversation,
            branch=branch.name,
            parent=list(branch.parent) if branch.parent else None,
            first_row=branch.rows,
        )

    def _sound(self, branch: Branch) -> bool:
        """Whether a branch's own file is there; it may have gone, behind its back, with rows that it builds on."""
        last = branch.extents[-1]
        if self._files.where(last.path).exists():
            return True
        branch.resize(min(branch.rows, last.first))
        return False

    def append(
        self,
        branch: Branch,
        *,
        ids: Sequence[int],
        positions: Sequence[int],
        exact: bool,
        sections: Sequence[bytes | memoryview],
    ) -> RowHeader:
        """Add the next row of `branch`; its header.

        Raises:
            QuotaReached: the tier is full and nothing may leave.
            OSError: it could not be written; the branch is as before.
        """
        self._room.make(self.layout.stride, self.quota, {branch.conversation, *self.in_use})
        parent = branch.link(branch.rows, self._root)
        row = RowHeader(branch.rows, extend(parent, ids), parent, tuple(ids), tuple(positions), exact)
        extent = branch.extents[-1]
        file = self._files.to_write(extent.path)
        self._match(branch, file)
        written = file.append(row, sections)
        if self._durable:
            file.sync()
        self.folder.index.add_row(branch.name, written.number, written.chain, file.size)
        self._unusable.pop(branch.name, None)
        branch.headers.append(written)
        branch.resize()
        self._room.used += self.layout.stride
        self.counters["rows_written"] += 1
        self.counters["bytes_written"] += self.layout.stride
        return written

    def _match(self, branch: Branch, file: ChunkFile) -> None:
        """Rows that were given up leave the file; rows that the file has lost are no longer the branch's."""
        rows = branch.rows - branch.extents[-1].base
        if file.rows > rows:
            file.truncate(rows)
        elif file.rows < rows:
            branch.resize(branch.extents[-1].base + file.rows)
            raise OSError(errno.ESTALE, "rows before it are not stored any more")

    def put_tail(self, branch: Branch, tail: Tail) -> None:
        """Store the open chunk of `branch` in place of the one before, bound to the row that it follows.

        Raises:
            QuotaReached, OSError: as `append`.
        """
        bound = replace(tail, fingerprint=branch.link(tail.rows, self._root))
        parts, path = pack(bound), branch.extents[-1].path.with_suffix(TAIL)
        size, before = sum(len(part) for part in parts), _size(path)
        self._room.make(size - before, self.quota, {branch.conversation, *self.in_use})
        publish(path, parts, durable=self._durable)
        self._room.used += size - before

    def _record(self, branch: Branch, header: FileHeader, size: int) -> None:
        parent, parent_rows = branch.parent or (None, 0)
        row = BranchRow(
            branch.name, branch.conversation, self._root, parent, parent_rows, header.first_row, branch.rows, size, 0
        )
        self.folder.index.put(row, header.fingerprint, [])

    # --- keeping it small ---------------------------------------------------------------------------------------------

    def sweep(self, limit_s: float) -> None:
        """Make the index true to the files and remove what nothing needs (`memory.sweep`)."""
        try:
            sweep(self.folder, limit_s, keep=self._root.hex())
        except OSError:
            self.counters["sweep_errors"] += 1
        self._room.measure()

    def forget(self, conversation: str, heirs: Heirs = NO_HEIRS) -> None:
        """Delete everything of a conversation but the rows that others build on (see `memory.forgetting`).

        Raises:
            OSError: something of it could not be removed.
        """
        self._files.close_in(self.folder.conversation(conversation))
        self._files.moved(forget(self.folder, conversation, heirs))
        self._room.measure()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
