"""Conversations as wholes: name, title, pins, system prompt; put away with undo, and removed for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from assistant.database import IntegrityError
from assistant.history.base import Base, Conflict, NameTaken, UnknownConversation, now, written
from assistant.protocol import ConversationChange

KEPT = timedelta(days=30)
"""How long a conversation that was put away can be restored."""


class Keeping(Base):
    """What can be done with a whole conversation."""

    def change(self, name: str, change: ConversationChange) -> str:
        """Change what `change` says, all of it or nothing; the name afterwards."""
        conversation_id = self.find(name)
        fields = change.model_dump(exclude_none=True)
        system = fields.pop("system", None)
        if "title" in fields:
            fields["titled"] = True
        with self._commit():
            if system is not None:
                self._set_system(name, conversation_id, system)
            if fields:
                self._update(conversation_id, fields)
        return change.name or name

    def growth(self, conversation_id: str) -> tuple[int, int] | None:
        """Turns of the shown path now, and when its title was made; None when the user chose the title."""
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id AND t.shown), title_turns "
            "FROM conversations c WHERE id = ? AND NOT titled",
            [conversation_id],
        ).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def suggest_title(self, conversation_id: str, title: str, turns: int) -> None:
        """A title made of so many turns, unless the user chose one."""
        with self._commit():
            self._db.execute(
                "UPDATE conversations SET title = ?, title_turns = ? WHERE id = ? AND NOT titled",
                [title, turns, conversation_id],
            )

    def put_away(self, name: str) -> None:
        """Take a conversation out of every list and search; it can be restored for `KEPT`."""
        conversation_id = self.find(name)
        with self._commit():
            # The name is free again at once: in its place stands one that nobody can type.
            self._db.execute(
                "UPDATE conversations SET removed = ?, name_before = name, name = char(127) || id WHERE id = ?",
                [now(), conversation_id],
            )

    def restore(self, name: str, new: str | None = None) -> str:
        """Bring back the conversation that was put away last under this name, as `new` if given; its name."""
        away = self._away(name)
        if not away:
            raise UnknownConversation(
                f"No conversation {name!r} was put away. See: assistant conversations list --removed"
            )
        with self._commit():
            self._update(away[0], {"name": new or name, "name_before": None, "removed": None})
        return new or name

    def ids(self, name: str) -> list[str]:
        """Ids of what `name` means to one who removes it: the conversation, else all that were put away under it."""
        row = self._db.execute("SELECT id FROM conversations WHERE name = ?", [name]).fetchone()
        found = [str(row[0])] if row else self._away(name)
        if not found:
            raise UnknownConversation(self._unknown(name))
        return found

    def put_away_before(self, moment: datetime | None = None) -> dict[str, str]:
        """Names by id of what was put away before `moment` (None: `KEPT` ago)."""
        limit = written(moment or datetime.now(UTC) - KEPT)
        rows = self._db.execute("SELECT id, name_before FROM conversations WHERE removed <= ?", [limit])
        return {str(row[0]): str(row[1]) for row in rows}

    def remove(self, name: str) -> None:
        """Delete a conversation for good."""
        self.erase(self.ids(name))

    def erase(self, ids: Sequence[str]) -> None:
        """Delete conversations: rows, search index, and (secure_delete, emptied WAL) the bytes they lay in."""
        rows = [(one,) for one in ids]
        with self._commit():
            self._db.conn.executemany("DELETE FROM turns WHERE conversation_id = ?", rows)
            self._db.conn.executemany("DELETE FROM conversations WHERE id = ?", rows)
            # Merged into one segment, the search index keeps nothing of what was removed; VACUUM drops the old pages.
            self._db.execute("INSERT INTO turns_fts(turns_fts) VALUES ('optimize')")
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _away(self, name: str) -> list[str]:
        """Ids of what was put away under this name, the latest first."""
        rows = self._db.execute(
            "SELECT id FROM conversations WHERE name_before = ? ORDER BY removed DESC, rowid DESC", [name]
        )
        return [str(row[0]) for row in rows]

    def _update(self, conversation_id: str, fields: dict[str, object]) -> None:
        columns = ", ".join(f"{column} = ?" for column in fields)
        try:
            self._db.execute(f"UPDATE conversations SET {columns} WHERE id = ?", [*fields.values(), conversation_id])
        except IntegrityError:
            raise NameTaken(f"There is already a conversation {fields.get('name')!r}; choose another name.") from None

    def _set_system(self, name: str, conversation_id: str, system: str) -> None:
        said = self._db.execute(
            "SELECT 1 FROM turns WHERE conversation_id = ? AND role <> 'system' LIMIT 1", [conversation_id]
        ).fetchone()
        if said:
            raise Conflict(
                f"Something was said in {name!r} already: its system prompt cannot be changed any more. "
                "Start a new conversation for the new one."
            )
        self._db.execute("DELETE FROM turns WHERE conversation_id = ?", [conversation_id])
        if system:
            self._insert(conversation_id, None, "system", system, "done")
