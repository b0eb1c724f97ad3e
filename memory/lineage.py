"""Who builds on whose rows: a fork begins with rows that lie in another conversation's files. Pure functions of what
the index lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from memory.index import BranchRow


@dataclass(frozen=True, slots=True)
class Kept:
    """The first `rows` rows of a branch are used by others; `heir` is a conversation that uses all of them."""

    rows: int
    heir: str


def used_by_others(branches: Sequence[BranchRow], conversation: str) -> dict[str, Kept]:
    """Of the branches of a conversation those that others build on, directly or through a branch of its own."""
    own = {row.branch: row for row in branches if row.conversation == conversation}
    found = dict[str, Kept]()
    for user in (row for row in branches if row.conversation != conversation):
        for branch, rows in _above(user, own):
            if branch not in found or found[branch].rows < rows:
                found[branch] = Kept(rows, user.conversation)
    return found


def borrowed(branches: Sequence[BranchRow]) -> dict[str, dict[str, int]]:
    """By conversation: the branches of others that it builds on, and up to which of their rows."""
    known = {row.branch: row for row in branches}
    found = dict[str, dict[str, int]]()
    for row in branches:
        parent = known.get(row.parent or "")
        if parent is None or parent.conversation == row.conversation:
            continue
        lent = found.setdefault(row.conversation, {})
        for branch, rows in _above(row, known):
            if known[branch].conversation != row.conversation:
                lent[branch] = max(rows, lent.get(branch, 0))
    return found


def by_conversation(branches: Iterable[BranchRow]) -> dict[str, list[BranchRow]]:
    """The branches of each conversation."""
    found = dict[str, list[BranchRow]]()
    for row in branches:
        found.setdefault(row.conversation, []).append(row)
    return found


def _above(row: BranchRow, known: Mapping[str, BranchRow]) -> Iterator[tuple[str, int]]:
    """(branch, rows) of each of the `known` that `row` takes rows from, the nearest first."""
    while (parent := known.get(row.parent or "")) is not None:
        yield parent.branch, row.parent_rows
        row = parent
