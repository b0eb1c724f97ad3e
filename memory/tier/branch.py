"""A branch: one line of a conversation's text as the disk tier knows it, and what of it answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memory.block import CHUNK, common
from memory.chunkfile import RowHeader
from memory.errors import RowDamaged
from memory.tailfile import Tail


@dataclass(frozen=True, slots=True)
class Extent:
    """Rows `first` to `stop` of a branch lie in `path`, which starts at row `base`."""

    path: Path
    base: int
    first: int
    stop: int


@dataclass(slots=True)
class Branch:
    """One line of a conversation's text: verified row headers, and the files that hold the rows."""

    name: str
    conversation: str
    headers: list[RowHeader] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)
    parent: tuple[str, int] | None = None

    @property
    def rows(self) -> int:
        """Rows that can be read."""
        return len(self.headers)

    def link(self, rows: int, root: bytes) -> bytes:
        """The chained id of the last of the first `rows` rows; `root` (the fingerprint's digest) before the first."""
        return self.headers[rows - 1].chain if rows else root

    def resize(self, rows: int | None = None) -> None:
        """Keep the first `rows` rows, and let the last extent end where the rows do."""
        if rows is not None:
            del self.headers[rows:]
        last = self.extents[-1]
        self.extents[-1] = Extent(last.path, last.base, last.first, self.rows)


@dataclass(frozen=True, slots=True)
class Found:
    """The longest stored beginning of some token ids.

    `rows` rows of `branch` match, and `further` tokens after them: the first ones of the next row of `begun`, else of
    the open chunk. `tail` is that chunk if it is sound. `differs`: the first token that is not what is stored;
    `foreign`: fields of the fingerprint that differ, when the conversation is stored under other ones only.
    """

    branch: Branch | None = None
    rows: int = 0
    further: int = 0
    begun: Branch | None = None
    differs: int | None = None
    foreign: tuple[str, ...] = ()
    tail: Tail | None = None

    @property
    def tokens(self) -> int:
        """How many tokens that is."""
        return self.rows * CHUNK + self.further


def compared(branch: Branch, matched: int, tail: Tail | None, ids: Sequence[int]) -> Found:
    """What a branch of which `matched` rows hold the beginning of `ids` holds of the tokens after them: in its next
    row, or in an open chunk that was stored before that row."""
    wanted = ids[matched * CHUNK : (matched + 1) * CHUNK]
    open_ids = tail.ids if tail is not None and tail.rows == matched else ()
    begun = branch if matched < branch.rows else None
    stored = branch.headers[matched].ids if begun is not None else open_ids
    if begun is not None and common(open_ids, wanted) > common(stored, wanted):
        begun, stored = None, open_ids
    further = common(stored, wanted)
    differs = matched * CHUNK + further if further < min(len(stored), len(wanted)) else None
    return Found(branch, matched, further, begun, differs, tail=tail)


def until(extents: Sequence[Extent], rows: int) -> list[Extent]:
    """The parts of `extents` that hold the first `rows` rows."""
    return [Extent(part.path, part.base, part.first, min(part.stop, rows)) for part in extents if part.first < rows]


def pieces(branch: Branch, first: int, count: int) -> list[tuple[Extent, int, int]]:
    """(extent, first row, row after the last) of every file that holds some of the rows asked for.

    Raises:
        RowDamaged: the branch does not have all of them.
    """
    if first + count > branch.rows:
        raise RowDamaged(branch.rows, "it is not stored any more")
    spans = [(part, max(first, part.first), min(first + count, part.stop)) for part in branch.extents]
    return [span for span in spans if span[1] < span[2]]


def compare(branch: Branch, rows: memoryview, start: int, stop: int, stride: int) -> None:
    """What was read must be the very rows whose headers were verified before.

    Raises:
        RowDamaged: another row lies there.
    """
    for number in range(start, stop):
        expected = branch.headers[number].pack()
        at = (number - start) * stride
        if rows[at : at + len(expected)] != expected:
            raise RowDamaged(number, "another row lies in its place")
