"""The device tier: one preallocated arena a layer, shared by every resident working set.

The active working set lies at the front, contiguous, so that attention reads it without a copy. Waiting ones lie in
pages at the back, found through a block table; what they take, the active one lacks, so the sum never passes the
arena. Pages hold keys as they were first computed and values, 64 entries each.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from memory.block import CHUNK
from memory.geometry import LayerGeometry


@dataclass(frozen=True, slots=True)
class Pages:
    """One row of the block table: where a waiting working set's `entries` lie."""

    numbers: list[int]
    entries: int


class LayerPool:
    """The arena of one layer, and its block table."""

    def __init__(
        self,
        shape: LayerGeometry,
        front: int,
        back: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        shared: bool,
    ) -> None:
        """Allocate `front` numbers for the active set and `back` pages; `shared` lets pages take the front too."""
        self.shape = shape
        self.page_size = 2 * shape.kv_heads * CHUNK * shape.head_dim
        self.arena = torch.empty(front + back * self.page_size, dtype=dtype, device=device)
        self.table: dict[str, Pages] = {}
        self._front = front
        self._most_pages = self.arena.numel() // self.page_size if shared else back

    @property
    def used(self) -> int:
        """Pages taken. They are always the last ones of the arena."""
        return sum(len(pages.numbers) for pages in self.table.values())

    @property
    def front(self) -> Tensor:
        """What the active working set may use, as a 1-D view."""
        return self.arena[: min(self._front, self.arena.numel() - self.used * self.page_size)]

    def takes(self, entries: int, front: int, without: Collection[str]) -> bool:
        """Whether `entries` more can wait, those of `without` gone, while `front` numbers stay for the active set."""
        gone = sum(len(self.table[name].numbers) for name in without if name in self.table)
        pages = self.used - gone + pages_for(entries)
        return pages <= self._most_pages and self.arena.numel() - pages * self.page_size >= min(front, self._front)

    def put(self, name: str, keys: Tensor, values: Tensor) -> None:
        """Store [KV heads, entries, size] under `name`; the caller asked `takes` and moved the active set."""
        entries = keys.shape[1]
        first = self.used
        self.table[name] = Pages(list(range(first, first + pages_for(entries))), entries)
        for at, page in self._each(name):
            part = keys[:, at : at + CHUNK], values[:, at : at + CHUNK]
            for store, piece in zip(self._page(page), part, strict=True):
                store[:, : piece.shape[1]] = piece

    def take(self, name: str) -> tuple[Tensor, Tensor]:
        """A copy of the keys and values under `name`, [KV heads, entries, size]; its pages are free afterwards."""
        entries, shape = self.table[name].entries, self.shape
        both = torch.empty(
            (2, shape.kv_heads, entries, shape.head_dim), dtype=self.arena.dtype, device=self.arena.device
        )
        for at, page in self._each(name):
            both[:, :, at : at + CHUNK] = self._page(page)[:, :, : min(CHUNK, entries - at)]
        self.drop(name)
        return both[0], both[1]

    def drop(self, name: str) -> None:
        """Free the pages of `name`; the last pages move into the holes, so that used ones stay together."""
        holes = self.table.pop(name).numbers
        for pages in self.table.values():
            for index, page in enumerate(pages.numbers):
                if page >= self.used:
                    hole = next(hole for hole in holes if hole < self.used)
                    holes.remove(hole)
                    self._page(hole).copy_(self._page(page))
                    pages.numbers[index] = hole

    def _each(self, name: str) -> list[tuple[int, int]]:
        """(first entry, page) of every page of `name`."""
        return [(index * CHUNK, page) for index, page in enumerate(self.table[name].numbers)]

    def _page(self, number: int) -> Tensor:
        """[2, KV heads, 64, size]: keys and values of one page, counted from the arena's end."""
        end = self.arena.numel() - number * self.page_size
        return self.arena[end - self.page_size : end].view(2, self.shape.kv_heads, CHUNK, self.shape.head_dim)


def pages_for(entries: int) -> int:
    """Pages that `entries` take."""
    return -(-entries // CHUNK)
