"""What every part of the history needs: the open file, transactions, names, and how rows become wire types."""

from __future__ import annotations

import difflib
import re
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assistant.database import open_history
from assistant.errors import UsageError
from assistant.protocol import Turn, Usage

_ASIDE = re.compile(r"\[[^\]]*\]")
TITLE_LENGTH = 80
LINE = """
    WITH RECURSIVE line(id, parent, depth) AS (
        SELECT id, parent, depth FROM turns WHERE id = :turn
        UNION ALL SELECT t.id, t.parent, t.depth FROM line JOIN turns t ON t.id = line.parent)"""
"""The turns that lead to `:turn`, itself included, as a table of a statement."""


class UnknownConversation(UsageError):
    """There is no conversation of this name."""


class Conflict(UsageError):
    """It cannot be done with what is there now."""


class NameTaken(Conflict):
    """Another conversation has this name."""


class Base:
    """The file, and how a conversation in it is found."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_history(path)

    def close(self) -> None:
        """Close the file; the WAL is folded into it."""
        self._db.close()

    def find(self, name: str) -> str:
        """The id of the conversation `name`."""
        row = self._db.execute("SELECT id FROM conversations WHERE name = ?", [name]).fetchone()
        if row is None:
            raise UnknownConversation(self._unknown(name))
        return str(row[0])

    @contextmanager
    def _commit(self) -> Iterator[None]:
        """One immediate transaction: it takes the write lock at its beginning and commits at its end."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.rollback()
            raise
        self._db.commit()

    def _insert(
        self, conversation_id: str, parent: int | None, role: str, text: str, state: str, created: str | None = None
    ) -> int:
        """A new turn after `parent`, on the path that is shown; its id. Call it inside a transaction."""
        row = self._db.execute(
            """INSERT INTO turns (conversation_id, position, parent, depth, role, text, state, created)
               VALUES (:conversation,
                       coalesce((SELECT max(position) + 1 FROM turns WHERE conversation_id = :conversation), 0),
                       :parent, coalesce((SELECT depth + 1 FROM turns WHERE id = :parent), 0),
                       :role, :text, :state, :now)
               RETURNING id""",
            {"conversation": conversation_id, "parent": parent, "role": role, "text": text, "state": state}
            | {"now": created or now()},
        ).fetchone()
        return int(row[0])

    def _tip(self, conversation_id: str) -> int | None:
        """The last turn of the path that is shown."""
        row = self._db.execute(
            "SELECT id FROM turns WHERE conversation_id = ? AND shown ORDER BY depth DESC LIMIT 1", [conversation_id]
        ).fetchone()
        return None if row is None else int(row[0])

    def _unknown(self, name: str) -> str:
        names = [str(row[0]) for row in self._db.execute("SELECT name FROM conversations WHERE removed IS NULL")]
        near = difflib.get_close_matches(name, names, n=3)
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else " See: assistant conversations list"
        return f"There is no conversation {name!r}.{hint}"


def unpack_ids(blob: bytes | None) -> list[int] | None:
    """The inverse of `memory.block.pack_ids`."""
    if blob is None:
        return None
    numbers = array("I", blob)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def turn_of(row: dict[str, Any]) -> Turn:
    """A row of the turns as the wire tells it."""
    usage = row.pop("usage")
    return Turn(**row, usage=None if usage is None else Usage.model_validate_json(usage))


def first_line(text: str) -> str:
    """The first line that says something, short enough to be a title; a date in brackets says nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next((line for line in lines if not _ASIDE.fullmatch(line)), lines[0] if lines else "")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"


def now() -> str:
    """This moment as the history writes it."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """A moment as the history writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
