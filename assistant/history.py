"""Conversations and turns in history.db: what is committed here is never lost, whatever happens to the process.

A `History` belongs to the thread that opened it (the daemon gives it one, `assistant.daemon.records`).
"""

from __future__ import annotations

import difflib
import secrets
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assistant.database import IntegrityError, open_history
from assistant.errors import UsageError
from assistant.protocol import Conversation, Hit, NewTurn, Turn, TurnState, Usage, WorkerTurn

TITLE_LENGTH = 80
_TURN = "id, role, text, state, created, usage"


class UnknownConversation(UsageError):
    """There is no conversation of this name."""


class NameTaken(UsageError):
    """Another conversation has this name."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A committed user turn and the pending reply after it."""

    conversation_id: str
    turn_id: int
    reply_id: int


@dataclass(frozen=True, slots=True)
class Added:
    """Committed imported turns."""

    conversation_id: str
    last_turn_id: int


class History:
    """One open history.db."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = open_history(path)

    def close(self) -> None:
        """Close the file; the WAL is folded into it."""
        self._db.close()

    # --- writing ---------------------------------------------------------------------------------------------------

    def begin(self, name: str, text: str, system: str | None = None, *, default_system: str | None = None) -> Begun:
        """Commit the user's turn and a pending reply, in one transaction; creates the conversation when it is new."""
        with self._commit():
            conversation_id, position = self._open_conversation(name, _first_line(text))
            position += self._place_system(name, conversation_id, position, system, default_system)
            turn_id = self._insert(conversation_id, position, "user", text, "done")
            reply_id = self._insert(conversation_id, position + 1, "assistant", "", "pending")
        return Begun(conversation_id, turn_id, reply_id)

    def add(self, name: str, turns: Sequence[NewTurn]) -> Added:
        """Commit imported turns at the end of the conversation `name`, all or none."""
        with self._commit():
            conversation_id, position = self._open_conversation(name, _first_line(turns[0].text))
            for number, turn in enumerate(turns):
                last = self._insert(conversation_id, position + number, turn.role, turn.text, "done")
        return Added(conversation_id, last)

    def checkpoint(self, reply_id: int, text: str) -> None:
        """Commit what a pending reply holds so far."""
        with self._commit():
            self._db.execute("UPDATE turns SET text = ? WHERE id = ? AND state = 'pending'", [text, reply_id])

    def finish(
        self,
        conversation_id: str,
        turn_id: int,
        *,
        text: str | None = None,
        state: TurnState = "done",
        usage: Usage | None = None,
        token_ids: Mapping[int, Sequence[int]] | None = None,
        model: str = "",
    ) -> None:
        """Commit the end of a request: text and state of its last turn, the usage record, the ids of what was read."""
        with self._commit():
            self._db.execute(
                "UPDATE turns SET text = coalesce(?, text), state = ?, usage = ? WHERE id = ? AND conversation_id = ?",
                [text, state, usage.model_dump_json() if usage else None, turn_id, conversation_id],
            )
            self._db.conn.executemany(
                "UPDATE turns SET token_ids = ?, token_model = ? WHERE id = ? AND conversation_id = ?",
                [(pack_ids(ids), model, turn, conversation_id) for turn, ids in (token_ids or {}).items()],
            )
            self._db.execute("UPDATE conversations SET updated = ? WHERE id = ?", [_now(), conversation_id])

    def recover(self) -> int:
        """Mark replies that a dead daemon left pending as interrupted; how many there were."""
        with self._commit():
            return int(self._db.execute("UPDATE turns SET state = 'interrupted' WHERE state = 'pending'").rowcount)

    def rename(self, old: str, new: str) -> None:
        """Give the conversation `old` the name `new`."""
        conversation_id = self.find(old)
        try:
            with self._commit():
                self._db.execute("UPDATE conversations SET name = ? WHERE id = ?", [new, conversation_id])
        except IntegrityError:
            raise NameTaken(f"There is already a conversation {new!r}; choose another name.") from None

    def remove(self, name: str) -> None:
        """Delete a conversation: rows, search index, and (secure_delete, emptied WAL) the bytes they lay in."""
        conversation_id = self.find(name)
        with self._commit():
            self._db.execute("DELETE FROM turns WHERE conversation_id = ?", [conversation_id])
            self._db.execute("DELETE FROM conversations WHERE id = ?", [conversation_id])
            # Merged into one segment, the search index keeps nothing of what was removed; VACUUM drops the old pages.
            self._db.execute("INSERT INTO turns_fts(turns_fts) VALUES ('optimize')")
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # --- reading ---------------------------------------------------------------------------------------------------

    def find(self, name: str) -> str:
        """The id of the conversation `name`."""
        row = self._db.execute("SELECT id FROM conversations WHERE name = ?", [name]).fetchone()
        if row is None:
            raise UnknownConversation(self._unknown(name))
        return str(row[0])

    def names(self) -> dict[str, str]:
        """The name of every conversation, by its id."""
        return {str(row[0]): str(row[1]) for row in self._db.execute("SELECT id, name FROM conversations")}

    def conversations(self, query: str = "") -> list[Conversation]:
        """Conversations whose name or title contains `query`, the one written to last first."""
        pattern = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._db.query(
            """SELECT c.id, c.name, c.title, c.created, c.updated, count(t.id) AS turns
               FROM conversations c LEFT JOIN turns t ON t.conversation_id = c.id
               WHERE c.name LIKE :pattern ESCAPE '\\' OR c.title LIKE :pattern ESCAPE '\\'
               GROUP BY c.id ORDER BY max(t.id) DESC""",
            {"pattern": pattern},
        )
        return [Conversation(**row) for row in rows]

    def owner(self, turn_id: int) -> Conversation:
        """The conversation that a turn is in."""
        row = self._db.execute(
            "SELECT c.name FROM turns t JOIN conversations c ON c.id = t.conversation_id WHERE t.id = ?", [turn_id]
        ).fetchone()
        if row is None:
            raise UnknownConversation(f"There is no turn {turn_id} in any conversation.")
        return next(one for one in self.conversations(str(row[0])) if one.name == row[0])

    def turns(self, name: str, before: int | None = None, limit: int = 50) -> list[Turn]:
        """The newest `limit` turns (of those with an id below `before`), oldest first."""
        rows = self._db.query(
            f"SELECT {_TURN} FROM turns WHERE conversation_id = ? AND id < ? ORDER BY position DESC LIMIT ?",
            [self.find(name), sys.maxsize if before is None else before, limit],
        )
        return [_turn(row) for row in rows][::-1]

    def read(self, conversation_id: str, model: str, before: int | None = None) -> list[WorkerTurn]:
        """All turns with text in front of turn `before`; their recorded ids where `model` itself wrote them."""
        rows = self._db.query(
            """SELECT id, role, text, created, iif(token_model = ?, token_ids, NULL) AS token_ids FROM turns
               WHERE conversation_id = ? AND id < ? AND state <> 'pending' AND text <> '' ORDER BY position""",
            [model, conversation_id, sys.maxsize if before is None else before],
        )
        return [WorkerTurn(**{**row, "token_ids": unpack_ids(row["token_ids"])}) for row in rows]

    def search(self, words: str, limit: int = 20) -> list[Hit]:
        """Turns that contain all of `words` (the last one may be the beginning of a word), best first."""
        if not words.split():
            raise UsageError("A search needs at least one word.")
        terms = " ".join('"' + word.replace('"', '""') + '"' for word in words.split()) + "*"
        rows = self._db.query(
            """SELECT c.name AS conversation, t.id AS turn_id, t.role, t.created,
                      snippet(turns_fts, 0, '[', ']', '…', 16) AS snippet
               FROM turns_fts JOIN turns t ON t.id = turns_fts.rowid JOIN conversations c ON c.id = t.conversation_id
               WHERE turns_fts MATCH ? ORDER BY turns_fts.rank, t.id DESC LIMIT ?""",
            [terms, limit],
        )
        return [Hit(**row) for row in rows]

    # --- parts -----------------------------------------------------------------------------------------------------

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

    def _open_conversation(self, name: str, title: str) -> tuple[str, int]:
        """Id and next position of the conversation `name`, made when it is new."""
        now = _now()
        self._db.execute(
            "INSERT INTO conversations VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET updated = excluded.updated",
            [secrets.token_hex(16), name, title, now, now],
        )
        row = self._db.execute(
            "SELECT c.id, coalesce(max(t.position) + 1, 0) FROM conversations c "
            "LEFT JOIN turns t ON t.conversation_id = c.id WHERE c.name = ?",
            [name],
        ).fetchone()
        return str(row[0]), int(row[1])

    def _place_system(
        self, name: str, conversation_id: str, position: int, system: str | None, default: str | None
    ) -> int:
        """Put the system prompt in front of a new conversation; how many turns that added."""
        if position == 0:
            text = default if system is None else system
            if text:
                self._insert(conversation_id, 0, "system", text, "done")
            return int(bool(text))
        if system is not None and system != self._system(conversation_id):
            raise UsageError(
                f"The conversation {name!r} began with another system prompt, which cannot be changed; "
                "start a new conversation for the new one."
            )
        return 0

    def _system(self, conversation_id: str) -> str:
        row = self._db.execute(
            "SELECT text FROM turns WHERE conversation_id = ? AND position = 0 AND role = 'system'", [conversation_id]
        ).fetchone()
        return str(row[0]) if row else ""

    def _insert(self, conversation_id: str, position: int, role: str, text: str, state: str) -> int:
        row = self._db.execute(
            "INSERT INTO turns (conversation_id, position, role, text, state, created) VALUES (?, ?, ?, ?, ?, ?) "
            "RETURNING id",
            [conversation_id, position, role, text, state, _now()],
        ).fetchone()
        return int(row[0])

    def _unknown(self, name: str) -> str:
        names = [str(row[0]) for row in self._db.execute("SELECT name FROM conversations")]
        near = difflib.get_close_matches(name, names, n=3)
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else " See: assistant conversations list"
        return f"There is no conversation {name!r}.{hint}"


def pack_ids(ids: Iterable[int]) -> bytes:
    """Token ids as 32-bit little-endian integers."""
    return _little_endian(array("i", ids)).tobytes()


def unpack_ids(blob: bytes | None) -> list[int] | None:
    """The inverse of `pack_ids`."""
    return None if blob is None else _little_endian(array("i", blob)).tolist()


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _turn(row: dict[str, Any]) -> Turn:
    usage = row.pop("usage")
    return Turn(**row, usage=None if usage is None else Usage.model_validate_json(usage))


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
