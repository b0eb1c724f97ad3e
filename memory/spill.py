"""Sealed rows on their way between the working set, RAM and disk: one I/O thread does all of it, off the token path.

A row that was sealed is written through to disk and copied to RAM; it is never changed. When writing fails the rows
wait to be sealed again, spilling rests for a while, and the chat goes on.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from memory.aside import HALF, PENDING, ROW_GROUP
from memory.block import CHUNK
from memory.chunkfile import Layout
from memory.codec import RowCodec
from memory.errors import CodecError, RowDamaged
from memory.forgetting import NO_HEIRS, Heirs
from memory.sweep import CheckReport, check
from memory.tailfile import Tail
from memory.thread import lone_thread
from memory.tier.disk import Branch, DiskTier, Found, QuotaReached
from memory.tier.ram import RamTier

REST_S = 60.0
"""How long spilling rests after a write failed."""

SWEEP_S, REBUILD_S, SWEEP_AGAIN_S = 2.0, 60.0, 3600.0
"""Longest sweep, longest rebuilding of a lost index, and the time between two sweeps, in seconds."""

ALIGNMENT = 4096

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RawRow:
    """64 tokens of every layer, copied out of the working set: keys as computed and values, [KV heads, 64, size] on the
    CPU in the working set's dtype."""

    number: int
    ids: tuple[int, ...]
    positions: tuple[int, ...]
    exact: bool
    numbers: list[tuple[Tensor, Tensor]]


@dataclass(slots=True)
class Stored:
    """What is stored of one conversation, in rows of 64 tokens. `rows` are on disk, `handed` were given to the I/O
    thread."""

    conversation: str
    branch: Branch | None = None
    rows: int = 0
    handed: int = 0
    failed: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that can be read back."""
        return self.rows * CHUNK

    def cut(self, rows: int) -> None:
        """Only the first `rows` belong to the conversation as it is now."""
        self.rows, self.handed = min(self.rows, rows), min(self.handed, rows)


@dataclass(slots=True)
class Staging:
    """Two halves of encoded rows, so that one is filled while the other is used."""

    half: int
    whole: Tensor = field(init=False)
    halves: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Allocate both, page-aligned."""
        whole = torch.empty(2 * self.half + ALIGNMENT, dtype=torch.uint8)
        start = -whole.data_ptr() % ALIGNMENT
        self.whole = whole[start : start + 2 * self.half]
        self.halves = self.whole[: self.half], self.whole[self.half :]


@dataclass(slots=True)
class Scratch:
    """Room for the decoded keys and values of one group of rows of one layer: 1-D, where they are used."""

    numbers: Tensor

    def views(self, kv_heads: int, rows: int, size: int) -> tuple[Tensor, Tensor]:
        """Keys and values [KV heads, rows, 64, size], contiguous."""
        used = self.numbers[: 2 * kv_heads * rows * CHUNK * size].view(2, kv_heads, rows, CHUNK, size)
        return used[0], used[1]


class Spill:
    """The RAM and disk tiers of one model, and the thread that works for them."""

    def __init__(
        self, codec: RowCodec, lossless: RowCodec, ram: int, open_disk: Callable[[], DiskTier], *, pinned: bool = False
    ) -> None:
        """Open the disk tier on the I/O thread; `ram` bytes of encoded rows are kept in RAM.

        Raises:
            KvLocked: another process uses the folder.
            OSError: the folder cannot be used at all.
        """
        self.codec = codec
        self.lossless = lossless
        self.layout = Layout(codec.sections)
        self.staging = Staging(half_bytes(self.layout))
        self.ram = RamTier(ram, self.layout.stride, pinned=pinned)
        self.counters: Counter[str] = Counter()
        self.notice: str | None = None
        self.rest_s = REST_S
        self._rest_until = 0.0
        self._room = threading.BoundedSemaphore(PENDING)
        self._thread = lone_thread("kv-io")
        self.disk = self.call(open_disk)
        self._swept = 0.0
        self.submit(self._sweep, REBUILD_S if self.disk.folder.index.fresh else SWEEP_S)

    # --- the thread --------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., T], *args: object) -> T:
        """`function(*args)` on the I/O thread, after all that was asked for before."""
        return self._thread.submit(function, *args).result()

    def submit(self, function: Callable[..., T], *args: object) -> Future[T]:
        """The same without waiting."""
        return self._thread.submit(function, *args)

    def flush(self) -> None:
        """Wait until everything handed over was written (or has failed)."""
        self.call(lambda: None)

    def close(self) -> None:
        """Write what waits, then close the tiers."""
        self.submit(self.disk.close)
        self._thread.shutdown()

    # --- writing -----------------------------------------------------------------------------------------------------

    @property
    def writing(self) -> bool:
        """Whether rows are written now; False while spilling rests after a failure."""
        return time.monotonic() >= self._rest_until

    def seal(self, stored: Stored, row: RawRow) -> None:
        """Hand over the next row; waits when too many wait already."""
        self._room.acquire()
        stored.handed = row.number + 1
        writing = self.submit(self._write, stored, row)
        writing.add_done_callback(lambda _: self._room.release())
        writing.add_done_callback(partial(self._watch, stored))

    def put_tail(self, stored: Stored, tail: Callable[[str], Tail]) -> None:
        """Store the open chunk and the working set's state, after the rows before it."""
        self.submit(self._write_tail, stored, stored.handed, tail).add_done_callback(partial(self._watch, stored))

    def _write(self, stored: Stored, row: RawRow) -> None:
        if stored.failed or row.number != stored.rows:
            return
        try:
            sections = [self.codec.encode(layer, *numbers) for layer, numbers in enumerate(row.numbers)]
            branch = self.disk.fork(stored.conversation, stored.branch, row.number)
            written = self.disk.append(
                branch,
                ids=row.ids,
                positions=row.positions,
                exact=row.exact,
                sections=[_bytes_of(part) for part in sections],
            )
        except (OSError, QuotaReached, CodecError) as error:
            self._rest(stored, error)
            return
        stored.branch, stored.rows = branch, row.number + 1
        self.counters["rows_sealed"] += 1
        if self.ram.capacity:
            self.ram.put(stored.conversation, row.number, written.chain, lambda slot: self._fill(slot, sections))

    def _watch(self, stored: Stored, done: Future[None]) -> None:
        """It is written or has failed; an error nobody foresaw stops spilling like any other."""
        error = done.exception()
        if isinstance(error, Exception):
            self._rest(stored, error)

    def _fill(self, slot: Tensor, sections: Sequence[Tensor]) -> None:
        for layer, section in enumerate(sections):
            start = self.layout.offsets[layer]
            slot[start : start + section.numel()] = section

    def _write_tail(self, stored: Stored, rows: int, tail: Callable[[str], Tail]) -> None:
        """Store the open chunk after `rows` rows: those handed over when it was, however many were since."""
        if stored.failed or stored.rows != rows:
            return
        try:
            stored.branch = self.disk.fork(stored.conversation, stored.branch, stored.rows)
            self.disk.put_tail(stored.branch, tail(stored.branch.name))
            self.counters["tails_written"] += 1
            if time.monotonic() > self._swept + SWEEP_AGAIN_S:
                self._sweep(SWEEP_S)
        except (OSError, QuotaReached, CodecError) as error:
            self._rest(stored, error)

    def _sweep(self, limit_s: float) -> None:
        self._swept = time.monotonic()
        self.disk.sweep(limit_s)

    def _rest(self, stored: Stored, error: Exception) -> None:
        stored.failed = True
        self._stop(error)

    def _stop(self, error: Exception) -> None:
        self._rest_until = time.monotonic() + self.rest_s
        self.counters["write_errors"] += 1
        self.notice = _sentence(error)

    def distrust(self, damage: RowDamaged) -> None:
        """Rows cannot be read back: use none for a while."""
        self._stop(OSError(errno.EIO, f"stored rows cannot be read back: {damage.why}"))

    def retry(self, stored: Stored) -> None:
        """After a failure and its rest: rows are sealed again from the first one that is missing."""
        if stored.failed:
            self.flush()
            there = stored.branch.rows if stored.branch is not None else 0
            stored.failed, self.notice = False, None
            stored.rows = stored.handed = min(stored.rows, there)

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def rows_per_half(self) -> int:
        """Whole rows that one half of the staging area holds."""
        return self.staging.half // self.layout.stride

    def load_rows(self, stored: Stored, first: int, count: int, half: int) -> Tensor:
        """Rows [count, stride] in a half of the staging area, from RAM or disk, verified. On the I/O thread.

        Raises:
            RowDamaged: a row on disk is not what was written.
        """
        stride = self.layout.stride
        into = self.staging.halves[half][: count * stride].view(count, stride)
        self._load(stored, first, into, 0, None)
        return into

    def load_sections(self, stored: Stored, layer: int, first: int, count: int, half: int) -> Tensor:
        """One layer's sections [count, bytes] of the rows from `first` on; the same otherwise.

        Raises:
            RowDamaged: a section on disk is not what was written.
        """
        size = self.codec.sections[layer]
        into = self.staging.halves[half][: count * size].view(count, size)
        self._load(stored, first, into, self.layout.offsets[layer], layer)
        return into

    def ahead(self, pieces: Sequence[range], load: Callable[[int, int, int], Tensor]) -> Iterator[tuple[range, Tensor]]:
        """Each piece with what `load`(first row, how many, half) gives for it; the next one is read meanwhile."""
        asked = [self.submit(load, piece.start, len(piece), 0) for piece in pieces[:1]]
        for at, piece in enumerate(pieces):
            loaded = asked.pop().result()
            for following in pieces[at + 1 : at + 2]:
                asked.append(self.submit(load, following.start, len(following), (at + 1) % 2))
            yield piece, loaded

    def most_rows(self, stored: Stored, layer: int, rows: int) -> int:
        """Of the first `rows` rows, how many `sections` can show at once: all in RAM, else what staging holds."""
        room = self.staging.whole.numel() // self.codec.sections[layer]
        return rows if self._rows_in_ram(stored) >= rows else min(rows, room)

    def expect(self, stored: Stored, layer: int, rows: Sequence[int]) -> None:
        """`sections` of the same rows (ascending) will be asked for soon: the system fetches what is on disk alone."""
        if self._rows_in_ram(stored) < stored.rows:
            self.submit(self._expect, stored, layer, rows)

    def _expect(self, stored: Stored, layer: int, rows: Sequence[int]) -> None:
        assert stored.branch is not None
        rows = [row for row in rows if row < stored.rows and self.slots(stored, [row]) is None]
        for run in runs_of(rows):
            self.disk.expect_sections(stored.branch, layer, rows[run.start], len(run))

    def _rows_in_ram(self, stored: Stored) -> int:
        return self.ram.tokens.get(stored.conversation, 0) // CHUNK if self.ram.capacity else 0

    def load_to_keep(self, stored: Stored, first: int, count: int) -> Tensor:
        """Rows [count, stride] in the first half; what was not in RAM is kept there while there is room. On the I/O
        thread.

        Raises:
            RowDamaged: a row on disk is not what was written.
        """
        loaded = self.load_rows(stored, first, count, 0)
        if self.ram.capacity:
            assert stored.branch is not None
            for number, row in enumerate(loaded, first):
                chain = stored.branch.headers[number].chain
                if self.ram.where(stored.conversation, [number], [chain]) is None:
                    self.ram.put(stored.conversation, number, chain, partial(_copy, row))
        return loaded

    def slots(self, stored: Stored, rows: Sequence[int]) -> Tensor | None:
        """Where the `rows` lie in RAM, [rows]; None unless all do. They stay while the conversation is active."""
        assert stored.branch is not None
        if not self.ram.capacity:
            return None
        chains = [stored.branch.headers[number].chain for number in rows]
        slots = self.ram.where(stored.conversation, rows, chains)
        return None if slots is None else torch.tensor(slots)

    def sections(
        self, stored: Stored, layer: int, rows: Sequence[int], slots: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One layer's sections [n, bytes] where they lie, and which of them the `rows` (ascending) are [rows].

        In RAM, in `slots` where the caller knows them, nothing is copied; from disk they come into the staging area,
        verified, and stay there until the next call. Raises:
            RowDamaged: a row on disk is not what was written.
        """
        slots = self.slots(stored, rows) if slots is None else slots
        if slots is not None:
            return self.ram.part(self.layout.offsets[layer], self.codec.sections[layer]), slots
        return self.call(self._scattered, stored, layer, rows), torch.arange(len(rows))

    def _scattered(self, stored: Stored, layer: int, rows: Sequence[int]) -> Tensor:
        size = self.codec.sections[layer]
        into = self.staging.whole[: len(rows) * size].view(len(rows), size)
        for run in runs_of(rows):
            self._load(stored, rows[run.start], into[run.start : run.stop], self.layout.offsets[layer], layer)
        return into

    def _load(self, stored: Stored, first: int, into: Tensor, start: int, layer: int | None) -> None:
        branch = stored.branch
        assert branch is not None
        at = 0
        while at < into.shape[0]:
            if self._in_ram(stored, first + at, into[at], start):
                at += 1
                continue
            end = at + 1
            while end < into.shape[0] and not self._in_ram(stored, first + end, into[end], start):
                end += 1
            view = _bytes_of(into[at:end].view(-1))
            if layer is None:
                self.disk.read_rows(branch, first + at, end - at, view)
            else:
                self.disk.read_sections(branch, layer, first + at, end - at, view)
            at = end + 1

    def _in_ram(self, stored: Stored, number: int, into: Tensor, start: int) -> bool:
        assert stored.branch is not None
        return self.ram.capacity > 0 and self.ram.read(
            stored.conversation, number, stored.branch.headers[number].chain, into, start
        )

    # --- finding and forgetting --------------------------------------------------------------------------------------

    def find(self, conversation: str, ids: Sequence[int], origins: Sequence[str] = (), *, share: bool = False) -> Found:
        """The longest stored beginning of `ids` (see `DiskTier.find`); rows of `origins` in RAM serve this one too."""
        found = self.call(self.disk.find, conversation, ids, origins, share)
        if found.branch is not None and self.ram.capacity:
            for origin in origins:
                self.ram.share(origin, conversation, [header.chain for header in found.branch.headers[: found.rows]])
        return found

    def damaged(self, stored: Stored, damage: RowDamaged) -> None:
        """Put a bad row into quarantine; what comes after it is read again."""
        assert stored.branch is not None
        self.call(self.disk.drop_from, stored.branch, damage.row, damage.why)
        self.ram.drop(stored.conversation, damage.row)

    def check(self, repair: bool) -> CheckReport:
        """Verify every stored row. On the I/O thread.

        Raises:
            OSError: the folder or its index cannot be used.
        """
        self.disk.close_files()
        report = check(self.disk.folder, repair=repair)
        if repair:
            self.disk.sweep(SWEEP_S)
        return report

    def forget(self, conversation: str, heirs: Heirs = NO_HEIRS) -> None:
        """Remove everything stored of a conversation but what its forks, the `heirs` too, begin with.

        Raises:
            OSError: something of it could not be removed.
        """
        self.ram.drop(conversation)
        self.call(self.disk.forget, conversation, heirs)


def _copy(row: Tensor, slot: Tensor) -> None:
    slot.copy_(row)


def runs_of(rows: Sequence[int]) -> list[range]:
    """Places in `rows` (ascending) whose numbers follow each other."""
    breaks = [at for at in range(1, len(rows)) if rows[at] != rows[at - 1] + 1]
    return [range(first, last) for first, last in pairwise([0, *breaks, len(rows)])]


def pieces_of(rows: Sequence[int], most: int) -> Iterator[range]:
    """The numbers in `rows` (ascending) that follow each other, at most `most` at once."""
    for run in runs_of(rows):
        for at in range(run.start, run.stop, most):
            yield range(rows[at], rows[min(at + most, run.stop) - 1] + 1)


def _bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a 1-D uint8 tensor on the CPU, without a copy."""
    return memoryview(tensor.numpy())  # type: ignore[arg-type]


def half_bytes(layout: Layout) -> int:
    """Bytes of one half of the staging area: whole rows, and at least one group of the largest sections."""
    least = max(HALF, ROW_GROUP * max(layout.sections))
    return -(-least // layout.stride) * layout.stride


def _sentence(error: Exception) -> str:
    reason = str(error)
    if isinstance(error, OSError):
        known = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the folder is read-only",
        }
        reason = known.get(error.errno or 0, error.strerror or type(error).__name__)
    return (
        f"The conversation's memory is not being written to disk ({reason}). The chat goes on and its text is safe; "
        f"trying again in {REST_S:.0f} s. What is not written has to be read again after a restart."
    )
