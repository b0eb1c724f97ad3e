"""Writing turns: what was said and what is being answered, from the question to the finished reply."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assistant.history.base import Conflict, first_line, now, written
from assistant.history.links import Link
from assistant.history.tree import Tree
from assistant.protocol import Call, NewTurn, TurnState, Usage
from memory.block import pack_ids


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


class Writing(Tree):
    """How turns come into the history."""

    def begin(
        self,
        name: str,
        text: str,
        system: str | None = None,
        *,
        default_system: str | None = None,
        replaces: int | None = None,
    ) -> Begun:
        """Commit the user's turn and a pending reply, in one transaction; creates the conversation when it is new.

        With `replaces` the text is another version of that user turn; the same text asks for another reply to it.
        """
        with self._commit():
            if replaces is None:
                conversation_id = self._open_conversation(name, first_line(text))
                tip = self._place_system(name, conversation_id, system, default_system)
                turn_id = self._insert(conversation_id, tip, "user", text, "done")
            else:
                conversation_id = self.find(name)
                self._keep_system(name, conversation_id, system)
                turn_id = self._replace(name, conversation_id, replaces, text)
            reply_id = self._insert(conversation_id, turn_id, "assistant", "", "pending")
        return Begun(conversation_id, turn_id, reply_id)

    def add(self, name: str, turns: Sequence[NewTurn]) -> Added:
        """Commit imported turns at the end of the conversation `name`, all or none."""
        with self._commit():
            conversation_id = self._open_conversation(name, first_line(turns[0].text))
            last = self._tip(conversation_id)
            for turn in turns:
                created = None if turn.created is None else written(turn.created)
                last = self._insert(conversation_id, last, turn.role, turn.text, "done", created)
        assert last is not None
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
        calls: Sequence[Call] = (),
        link: Link | None = None,
    ) -> None:
        """Commit the end of a request: text and state of its last turn, the usage record, the ids of what was read.

        What a reply calls is committed with it, before anything is done about it. With a `link` it can be found by
        what was said.
        """
        with self._commit():
            self._db.execute(
                "UPDATE turns SET text = coalesce(?, text), state = ?, usage = ? WHERE id = ? AND conversation_id = ?",
                [text, state, usage.model_dump_json() if usage else None, turn_id, conversation_id],
            )
            self._db.conn.executemany(
                "UPDATE turns SET token_ids = ?, token_model = ? WHERE id = ? AND conversation_id = ?",
                [(pack_ids(ids), model, turn, conversation_id) for turn, ids in (token_ids or {}).items()],
            )
            self._db.conn.executemany(
                "INSERT INTO calls (turn_id, position, tool, arguments, state) VALUES (?, ?, ?, ?, 'asked')",
                [(turn_id, at, call.name, json.dumps(call.arguments)) for at, call in enumerate(calls)],
            )
            if link is not None:
                self._set_link(turn_id, link)
            self._db.execute("UPDATE conversations SET updated = ? WHERE id = ?", [now(), conversation_id])

    def recover(self) -> int:
        """Mark replies that a dead daemon left pending as interrupted; how many there were."""
        with self._commit():
            return int(self._db.execute("UPDATE turns SET state = 'interrupted' WHERE state = 'pending'").rowcount)

    def _set_link(self, turn_id: int, link: Link) -> None:
        self._db.execute("INSERT INTO links (turn_id, link, said) VALUES (?, ?, ?)", [turn_id, link.id, link.said])

    def _open_conversation(self, name: str, title: str) -> str:
        """Id of the conversation `name`, made when it is new."""
        moment = now()
        row = self._db.execute(
            "INSERT INTO conversations (id, name, title, created, updated) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET updated = excluded.updated RETURNING id",
            [secrets.token_hex(16), name, title, moment, moment],
        ).fetchone()
        return str(row[0])

    def _place_system(self, name: str, conversation_id: str, system: str | None, default: str | None) -> int | None:
        """The last turn of the path; in front of a new conversation the system prompt is put first."""
        tip = self._tip(conversation_id)
        if tip is not None:
            self._keep_system(name, conversation_id, system)
            return tip
        text = default if system is None else system
        return self._insert(conversation_id, None, "system", text, "done") if text else None

    def _keep_system(self, name: str, conversation_id: str, system: str | None) -> None:
        if system is not None and system != self._system(conversation_id):
            raise Conflict(
                f"The conversation {name!r} began with another system prompt, which cannot be changed; "
                "start a new conversation for the new one."
            )

    def _system(self, conversation_id: str) -> str:
        row = self._db.execute(
            "SELECT text FROM turns WHERE conversation_id = ? AND shown AND depth = 0 AND role = 'system'",
            [conversation_id],
        ).fetchone()
        return str(row[0]) if row else ""
