"""Stored branches as they can be read: opened, verified, and what turns out to be damaged put aside.

Everything here runs on the thread that made it (the I/O thread of `memory.spill`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from memory.block import CHUNK, extend
from memory.chunkfile import ChunkFile, Layout, RowHeader
from memory.errors import DamagedFile, RowDamaged
from memory.fingerprint import Fingerprint
from memory.folder import QUARANTINE, TAIL, KvFolder, make_private
from memory.index import BranchRow
from memory.publish import publish
from memory.tailfile import Tail, unpack
from memory.tier.branch import Branch, Extent, Found, compare, compared, pieces, until
from memory.tier.files import OpenFiles
from memory.tier.room import Room


class StoredBranches:
    """Branches of chunk files for one fingerprint and one row layout."""

    def __init__(
        self,
        folder: KvFolder,
        fingerprint: Fingerprint,
        layout: Layout,
        codec: Sequence[str],
        shapes: Sequence[Sequence[int]],
        quota: int,
        reserve: int | None = None,
        *,
        durable: bool = False,
    ) -> None:
        """`quota` bytes of KV may be stored; `reserve` bytes of the disk stay free (default: 2 GiB, at most 5 %)."""
        self.folder = folder
        self.fingerprint = fingerprint
        self.layout = layout
        self.quota = quota
        self.counters = folder.counters
        self.in_use: set[str] = set()
        self._codec, self._shapes = list(codec), [list(shape) for shape in shapes]
        self._durable = durable
        self._root = fingerprint.digest
        self._unusable: dict[str, int] = {}
        """Branch -> first row that is damaged and could not be cut off."""
        self._files = OpenFiles()
        self._room = Room(folder, self._files, self._root, layout.stride, reserve)

    def close(self) -> None:
        """Close every file and the folder."""
        self.close_files()
        self.folder.close()

    def close_files(self) -> None:
        """Close every file; each is opened again when it is needed."""
        self._files.close_all()

    def use(self) -> tuple[dict[str, int], int]:
        """(bytes by kind, those of the chunk files as the index has them; bytes found by walking the folder)."""
        usage = self.folder.usage()
        total = usage.total
        with suppress(OSError):
            usage.kinds["chunks"] = self.folder.index.total_bytes()
        return usage.kinds, total

    # --- opening ------------------------------------------------------------------------------------------------------

    def _matching(self, conversation: str, links: Sequence[bytes]) -> list[tuple[str, int]]:
        return self.folder.index.matching(conversation, self._root, links)

    def _candidates(self, ranked: Sequence[tuple[str, int]], ids: Sequence[int]) -> list[Found]:
        """What branches hold, the most promising first, until none can be better than what was found."""
        candidates = list[Found]()
        for name, rows in ranked:
            if candidates and rows < max(found.rows for found in candidates):
                break
            if (found := self._verified(name, rows, ids)) is not None:
                candidates.append(found)
        return candidates

    def _miss(self, why: str, found: Found) -> Found:
        self.counters["misses"] += 1
        self.counters[f"misses: {why}"] += 1
        return found

    def _verified(self, name: str, rows: int, ids: Sequence[int]) -> Found | None:
        """What of a branch really holds the tokens; rows that cannot be trusted are put aside."""
        branch = self._open(name)
        if branch is None:
            return None
        matched = 0
        for header in branch.headers[: rows or None]:
            if list(header.ids) != list(ids[matched * CHUNK : (matched + 1) * CHUNK]):
                break
            matched += 1
        return compared(branch, matched, self._tail(branch), ids)

    def _open(self, name: str) -> Branch | None:
        """A branch with its headers, each verified against the chain of the ones before it; None: it is of no use."""
        row = self.folder.index.branch(name)
        branch = None if row is None else self._inherited(row)
        if row is None or branch is None:
            return None
        path = self.folder.chunks(row)
        try:
            file = self._files.get(path)
            self._check_file(row, file)
        except (OSError, DamagedFile) as error:
            self.counters["files_unreadable"] += 1
            self._give_up(row, error)
            return None
        branch.extents.append(Extent(path, row.first_row, branch.rows, branch.rows))
        with suppress(OSError):  # what was read until then can be used
            self._read_headers(branch, file)
        return branch

    def _inherited(self, row: BranchRow) -> Branch | None:
        """The rows that a branch takes from its parent; None when they are gone: what follows cannot be reached."""
        branch = Branch(row.branch, row.conversation)
        if row.parent is None:
            return branch
        parent = self.folder.index.branch(row.parent)
        if parent is None or parent.rows < row.parent_rows:
            if parent is not None or not self.folder.holds(row.parent):
                self._remove(row)
            return None
        before = self._open(row.parent)
        if before is None or before.rows < row.parent_rows:
            return None
        branch.headers = before.headers[: row.parent_rows]
        branch.extents = until(before.extents, row.parent_rows)
        branch.parent = (row.parent, row.parent_rows)
        return branch

    def _check_file(self, row: BranchRow, file: ChunkFile) -> None:
        """The file must be the one that its name and the index say."""
        header = file.header
        root = Fingerprint.of(header.fingerprint).digest
        if (root, header.branch, header.first_row) != (self._root, row.branch, row.first_row):
            raise DamagedFile("The chunk file belongs to another branch or fingerprint than its name says.")
        if file.layout != self.layout:
            raise DamagedFile("The chunk file's rows are laid out in another way than its fingerprint says.")

    def _give_up(self, row: BranchRow, error: Exception) -> None:
        """A damaged file goes to quarantine whole, a lost one out of the index; others may be read another time."""
        if isinstance(error, DamagedFile):
            self._set_aside(row)
        elif isinstance(error, FileNotFoundError):
            self._remove(row)

    def _read_headers(self, branch: Branch, file: ChunkFile) -> None:
        usable = self._unusable.get(branch.name, file.rows + branch.rows) - branch.rows
        for index in range(min(file.rows, usable)):
            try:
                header = file.row_header(index)
                self._check_chain(branch, header)
            except RowDamaged as damage:
                self.drop_from(branch, damage.row, damage.why)
                return
            branch.headers.append(header)
            branch.resize()

    def _check_chain(self, branch: Branch, header: RowHeader) -> None:
        parent = branch.link(branch.rows, self._root)
        if header.parent != parent or header.chain != extend(parent, header.ids):
            raise RowDamaged(header.number, "its chained id does not follow from its tokens")

    def _tail(self, branch: Branch) -> Tail | None:
        path = branch.extents[-1].path.with_suffix(TAIL)
        try:
            tail = unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, DamagedFile):
            self.counters["tails_damaged"] += 1
            return None
        known = tail.rows <= branch.rows and tail.fingerprint == branch.link(tail.rows, self._root)
        return tail if known and tail.branch == branch.name else None

    def _foreign(self, conversation: str) -> tuple[str, ...]:
        others = self.folder.index.branches(conversation)
        if not others:
            return ()
        fields = Fingerprint.of(self.folder.index.fields(others[-1].branch))
        return tuple(self.fingerprint.differing(fields))

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_rows(self, branch: Branch, first: int, count: int, into: memoryview) -> None:
        """Whole rows into `into` (`count` x stride bytes), verified.

        Raises:
            RowDamaged: one is not what was written, or cannot be read.
        """
        stride = self.layout.stride
        for extent, start, stop in pieces(branch, first, count):
            piece = into[(start - first) * stride : (stop - first) * stride]
            with _as_damage(start):
                self._files.get(extent.path).read_rows(start - extent.base, stop - start, piece)
            compare(branch, piece, start, stop, stride)
        self.counters["rows_read"] += count

    def read_sections(self, branch: Branch, layer: int, first: int, count: int, into: memoryview) -> None:
        """One layer's sections of rows, tightly packed; the same otherwise."""
        size = self.layout.sections[layer]
        for extent, start, stop in pieces(branch, first, count):
            piece = into[(start - first) * size : (stop - first) * size]
            sums = [header.sums[layer] for header in branch.headers[start:stop]]
            with _as_damage(start):
                self._files.get(extent.path).read_sections(layer, start - extent.base, stop - start, piece, sums)
        self.counters["sections_read"] += count

    def expect_sections(self, branch: Branch, layer: int, first: int, count: int) -> None:
        """The same sections will be read soon. What cannot be said now shows when they are read."""
        with suppress(OSError, DamagedFile, RowDamaged):
            for extent, start, stop in pieces(branch, first, count):
                self._files.get(extent.path).expect_sections(layer, start - extent.base, stop - start)

    # --- mending ------------------------------------------------------------------------------------------------------

    def drop_from(self, branch: Branch, row: int, why: str) -> None:
        """Put a bad row aside and cut its file there; what builds on it goes too."""
        self.counters["rows_damaged"] += 1
        self.counters[f"damaged: {re.sub('[0-9]+', 'N', why)}"] += 1
        extent = next(part for part in reversed(branch.extents) if row >= part.first)
        before = [part for part in branch.extents if part.first < extent.first]
        branch.name, branch.conversation = extent.path.stem, self._owner(extent)
        branch.parent = (before[-1].path.stem, extent.first) if before else None
        branch.extents = [*before, replace(extent, stop=row)]
        del branch.headers[row:]
        try:
            self._cut(replace(extent, path=self._files.where(extent.path)), row)
        except OSError:
            self.counters["write_errors"] += 1
            self._unusable[extent.path.stem] = row

    def _cut(self, extent: Extent, row: int) -> None:
        """Cut the file of `extent` at `row`, keep the bad row in quarantine, remove what builds on it."""
        index, name = self.folder.index, extent.path.stem
        file = self._files.to_write(extent.path)
        if file.rows > row - extent.base:
            with suppress(OSError):
                self._quarantine(extent.path, file, row - extent.base)
            file.truncate(row - extent.base)
        with suppress(FileNotFoundError):
            extent.path.with_suffix(TAIL).unlink()
        index.cut(name, extent.base + file.rows, file.size)
        for child in index.children(name):
            if child.parent_rows > row:
                self.folder.remove(child)
        self._room.measure()

    def _owner(self, extent: Extent) -> str:
        """Whose file an extent lies in; nobody's where the index cannot say."""
        with suppress(OSError):
            row = self.folder.index.branch(extent.path.stem)
            return row.conversation if row is not None else ""
        return ""

    def _quarantine(self, path: Path, file: ChunkFile, index: int) -> None:
        folder = path.parent / QUARANTINE
        make_private(folder)
        publish(folder / f"{path.stem}-{index}.row", [file.raw_row(index)], durable=False)
        self.counters["rows_quarantined"] += 1

    def _set_aside(self, row: BranchRow) -> None:
        """A file that is not what its name says goes to quarantine whole."""
        path = self.folder.chunks(row)
        folder = path.parent / QUARANTINE
        with suppress(OSError):
            make_private(folder)
            path.replace(folder / path.name)
        self._remove(row)

    def _remove(self, row: BranchRow) -> None:
        """Delete a branch of which nothing can be read, and what builds on it, as far as that is possible."""
        self._files.close(self.folder.chunks(row))
        try:
            self.folder.remove(row)
        except OSError:
            self.counters["write_errors"] += 1
        self._room.measure()


class _as_damage:
    """An error of the disk while reading is damage of the first row asked for."""

    def __init__(self, row: int) -> None:
        self._row = row

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            raise RowDamaged(self._row, f"the disk says: {error.strerror or error}") from error
        if isinstance(error, DamagedFile):
            raise RowDamaged(self._row, str(error).rstrip(".")) from error
