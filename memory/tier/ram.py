"""The RAM tier: encoded rows in slots that are allocated once, pinned when a GPU reads them.

Rows are copies of what is on disk, so leaving only frees a slot. Whose conversation was used longest ago leaves first,
and of one conversation the last rows leave before the first (leaves before roots): a prefix is what can be reused.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memory.block import CHUNK

Rows = dict[int, tuple[bytes, int]]
"""Row number -> (chained id, slot)."""


class RamTier:
    """At most `capacity` bytes of encoded rows. Safe to use from two threads."""

    def __init__(self, capacity: int, row_bytes: int, *, pinned: bool = False) -> None:
        self.row_bytes = row_bytes
        self.counters: Counter[str] = Counter()
        self._slots = torch.empty((capacity // row_bytes, row_bytes), dtype=torch.uint8, pin_memory=pinned)
        self._free = list(reversed(range(self._slots.shape[0])))
        self._held: OrderedDict[str, Rows] = OrderedDict()
        self._holders = [0] * self._slots.shape[0]
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        """Bytes allocated."""
        return self._slots.nbytes

    @property
    def used(self) -> int:
        """Bytes of slots that hold a row."""
        return (self._slots.shape[0] - len(self._free)) * self.row_bytes

    @property
    def free(self) -> int:
        """Bytes of slots that hold none."""
        return len(self._free) * self.row_bytes

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens held of each conversation."""
        with self._lock:
            return {name: CHUNK * len(rows) for name, rows in self._held.items()}

    def put(self, conversation: str, number: int, chain: bytes, write: Callable[[Tensor], object]) -> bool:
        """Hold a row; `write` fills its slot [row bytes]. False when everything held is more worth keeping."""
        with self._lock:
            rows = self._held.setdefault(conversation, {})
            self._held.move_to_end(conversation)
            if (slot := self._slot_for(conversation, number)) is None:
                return False
            write(self._slots[slot])
            rows[number] = (chain, slot)
            self._holders[slot] = 1
            self.counters["ram_rows_in"] += 1
            return True

    def share(self, origin: str, conversation: str, chains: Sequence[bytes]) -> None:
        """Hold for a fork, in the same slots, what is held for its origin of the rows with these chained ids."""
        with self._lock:
            theirs, mine = self._held.get(origin, {}), self._held.get(conversation, {})
            for number, chain in enumerate(chains):
                if number in theirs and theirs[number][0] == chain and number not in mine:
                    mine[number] = theirs[number]
                    self._holders[mine[number][1]] += 1
            if mine:
                self._held[conversation] = mine
                self._held.move_to_end(conversation)

    def read(self, conversation: str, number: int, chain: bytes, into: Tensor, start: int) -> bool:
        """Copy the row's bytes from `start` on to `into` [bytes]; whether it was here."""
        return self.gather(conversation, number, [chain], into[None], start)

    def gather(self, conversation: str, first: int, chains: Sequence[bytes], into: Tensor, start: int) -> bool:
        """Copy `into.shape[1]` bytes of each row from `first` on to `into` [rows, bytes]; all or none."""
        with self._lock:
            rows = self._held.get(conversation, {})
            found = [rows.get(first + index) for index in range(len(chains))]
            if any(row is None or row[0] != chain for row, chain in zip(found, chains, strict=True)):
                return False
            slots = [row[1] for row in found if row is not None]
            part = self._slots[:, start : start + into.shape[1]]
            if slots == list(range(slots[0], slots[0] + len(slots))):
                into.copy_(part[slots[0] : slots[0] + len(slots)])
            else:
                torch.index_select(part, 0, torch.tensor(slots), out=into)
            self._held.move_to_end(conversation)
            self.counters["ram_rows_out"] += len(slots)
            return True

    def where(self, conversation: str, rows: Sequence[int], chains: Sequence[bytes]) -> list[int] | None:
        """The slots that hold these rows, None unless all are here; they stay while the conversation is active."""
        with self._lock:
            held = self._held.get(conversation, {})
            found = [held.get(number) for number in rows]
            if any(row is None or row[0] != chain for row, chain in zip(found, chains, strict=True)):
                return None
            self._held.move_to_end(conversation)
            return [row[1] for row in found if row is not None]

    def part(self, start: int, size: int) -> Tensor:
        """Bytes `start` to `start + size` of every slot, as a view [slots, size]."""
        return self._slots[:, start : start + size]

    def drop(self, conversation: str, first: int = 0) -> None:
        """Free the slots of a conversation's rows from `first` on."""
        with self._lock:
            rows = self._held.get(conversation, {})
            for number in [number for number in rows if number >= first]:
                self._free += self._let_go(rows, number)
            if not rows:
                self._held.pop(conversation, None)

    def _slot_for(self, conversation: str, number: int) -> int | None:
        """A slot for this row: its own, a free one, or that of the row that is least worth keeping."""
        rows = self._held[conversation]
        if number in rows and (own := self._let_go(rows, number)):
            return own[0]
        while not self._free:
            oldest = next((name for name, held in self._held.items() if held), None)
            if oldest is None or (oldest == conversation and max(rows) < number):
                return None
            held = self._held[oldest]
            self.counters["ram_rows_evicted"] += 1
            self._free += self._let_go(held, max(held))
            if not held and oldest != conversation:
                del self._held[oldest]
        return self._free.pop()

    def _let_go(self, rows: Rows, number: int) -> list[int]:
        """Take a row out of what a conversation holds; its slot, if nobody else holds that."""
        slot = rows.pop(number)[1]
        self._holders[slot] -= 1
        return [] if self._holders[slot] else [slot]
