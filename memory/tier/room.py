"""Room on the disk: what stored KV may take, and who gives way when there is no more."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress

from memory.budget import GIB, format_size
from memory.chunkfile import ChunkFile
from memory.errors import DamagedFile, MemoryFailure
from memory.folder import TAIL, KvFolder
from memory.index import BranchRow
from memory.tier.files import OpenFiles


class QuotaReached(MemoryFailure):
    """The disk tier may not grow, and nothing in it may leave."""


class Room:
    """Counts the bytes of stored KV (`used`) and lets the branches used longest ago go.

    The index, thousands of times smaller, is not counted: it could not make room for itself.
    """

    def __init__(self, folder: KvFolder, files: OpenFiles, root: bytes, stride: int, reserve: int | None) -> None:
        """`root`: the fingerprint whose rows, `stride` bytes each, can be taken one by one; `reserve` stays free."""
        self.used = 0
        self._folder, self._files = folder, files
        self._root, self._stride, self._reserve = root, stride, reserve
        self.measure()

    def measure(self) -> None:
        """Count anew: chunk files, tails, quarantine and scores of every conversation and fingerprint."""
        kinds = self._folder.usage().kinds
        self._scores = kinds["scores"]
        self.used = kinds["chunks"] + kinds["tails"] + kinds["quarantine"] + kinds["scores"]

    def make(self, size: int, quota: int, kept: Collection[str], beneath: tuple[str, int] | None = None) -> None:
        """Let old rows leave until `size` bytes fit, but none of the conversations in `kept`; scores leave last.

        Rows that others build on stay, and so do those of a new branch's parent (`beneath`: branch, rows).

        Raises:
            QuotaReached: nothing more may leave.
            OSError: something could not be removed.
        """
        short = max(self.used + size - quota, size - self._free())
        while short > 0:
            before = self.used
            victim = self._victim(kept, beneath)
            if victim is not None:
                self._evict(*victim, short)
            elif self._scores:
                self._folder.drop_scores()
                self.measure()
            else:
                raise QuotaReached(
                    f"{format_size(self.used)} of {format_size(quota)} are used for stored KV, or the disk is nearly "
                    "full, and nothing older can leave"
                )
            short -= before - self.used

    def _free(self) -> int:
        """Bytes that may be written while the reserve of the file system stays free."""
        system = os.statvfs(self._folder.path)
        whole = system.f_blocks * system.f_frsize
        reserve = min(2 * GIB, whole // 20) if self._reserve is None else self._reserve
        return system.f_bavail * system.f_frsize - reserve

    def _victim(self, kept: Collection[str], beneath: tuple[str, int] | None) -> tuple[BranchRow, int] | None:
        """The branch that gives way next, and how many of all its rows must stay."""
        for row, needed in self._folder.index.spare():
            stays = max(needed, beneath[1]) if beneath is not None and beneath[0] == row.branch else needed
            cuttable = row.rows > stays and row.fingerprint == self._root
            if row.conversation not in kept and (not stays or cuttable):
                return row, stays
        return None

    def _evict(self, row: BranchRow, stays: int, size: int) -> None:
        """Take rows from the end of a branch's file, at least `size` bytes, if so many may go; an empty one goes."""
        path = self._folder.chunks(row)
        rows = max(0, stays - row.first_row, row.rows - row.first_row - -(-size // self._stride))
        self._files.close(path)
        file = None
        if rows and row.fingerprint == self._root:
            with suppress(DamagedFile, FileNotFoundError):
                file = self._files.get(path, writable=True)
        if file is None:
            self._folder.counters["rows_evicted"] += row.rows - row.first_row
            self._folder.remove(row)
        else:
            self._shorten(row, file, rows)
        self.measure()

    def _shorten(self, row: BranchRow, file: ChunkFile, rows: int) -> None:
        self._folder.counters["rows_evicted"] += max(0, file.rows - rows)
        file.truncate(min(file.rows, rows))
        with suppress(FileNotFoundError):
            file.path.with_suffix(TAIL).unlink()
        self._folder.index.cut(row.branch, row.first_row + file.rows, file.size)
