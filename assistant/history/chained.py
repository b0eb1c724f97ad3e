"""Conversations of clients that bring all of their messages with every request: what is known of them goes on.

Each message has a chained id (`assistant.history.links`), looked up and stored in one transaction with the turns, so
that of two requests at once that go on from the same message the second one finds it taken, and forks.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assistant.errors import UsageError
from assistant.history.base import LINE, first_line, turn_of
from assistant.history.links import Message, chain
from assistant.history.writing import Begun, Writing
from assistant.protocol import Call, Turn

_TIP = "t.shown AND NOT EXISTS (SELECT 1 FROM turns n WHERE n.parent = t.id)"


class UnknownResponse(UsageError):
    """There is no reply of this id."""


@dataclass(frozen=True, slots=True)
class BegunChain:
    """A pending reply after messages that are committed. `link` is the id of the last one."""

    begun: Begun
    name: str
    link: str


@dataclass(frozen=True, slots=True)
class Response:
    """A reply that can be gone on from: what it says beside its calls, and the request that it answers."""

    turn: Turn
    conversation: str
    said: str
    calls: list[Call]
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where messages are known up to: so many of them, up to `turn`."""

    known: int
    turn: int
    conversation: str
    name: str
    is_tip: bool


class Chained(Writing):
    """Conversations that are found by what was said in them."""

    def begin_chained(
        self,
        start: str,
        messages: Sequence[Message],
        request: dict[str, Any] | None = None,
        after: int | None = None,
    ) -> BegunChain:
        """Commit what is new of `messages` and a pending reply after them.

        They go on where the longest stored beginning of them ends: in its conversation when nothing was said there
        since, else in a fork. With `after`, they are what comes after that reply.

        Args:
            start: the chained id in front of the first message (`links.root`); of no use with `after`.
            messages: at least one.
            request: what a reply keeps of its request, for `response`.
            after: a reply that has an id (`response`).
        """
        with self._commit():
            place = self._known(start, messages) if after is None else self._place(after)
            conversation, name, tip = self._entered(place, messages)
            links = chain(start if after is None else self._link(after), messages)
            known = 0 if place is None else place.known
            for message, link in zip(messages[known:], links[known:], strict=True):
                tip = self._insert(conversation, tip, message.role, message.text, "done")
                self._set_link(tip, link)
            reply = self._begin_reply(conversation, tip, request)
        assert tip is not None
        return BegunChain(Begun(conversation, tip, reply), name, links[-1].id)

    def begin_named(
        self,
        name: str,
        messages: Sequence[Message],
        request: dict[str, Any] | None = None,
        *,
        system: str | None = None,
        default_system: str | None = None,
    ) -> Begun:
        """Commit messages at the end of the conversation `name`, and a pending reply after them (as `begin`)."""
        with self._commit():
            conversation = self._open_conversation(name, first_line(messages[0].said))
            tip = self._place_system(name, conversation, system, default_system)
            for message in messages:
                tip = self._insert(conversation, tip, message.role, message.text, "done")
            reply = self._begin_reply(conversation, tip, request)
        assert tip is not None
        return Begun(conversation, tip, reply)

    def response(self, reply_id: int) -> Response:
        """A reply by its number, with its request.

        Raises:
            UnknownResponse: there is none, or it was not asked for in a way that can be gone on from.
        """
        row = next(
            self._db.query(
                """SELECT t.id, t.role, t.text, t.state, t.created, t.usage, t.parent, r.request, c.name, l.said
                   FROM responses r JOIN turns t ON t.id = r.turn_id JOIN conversations c ON c.id = t.conversation_id
                   LEFT JOIN links l ON l.turn_id = t.id WHERE t.id = ? AND c.removed IS NULL""",
                [reply_id],
            ),
            None,
        )
        if row is None:
            raise UnknownResponse(f"There is no response {reply_id}.")
        request, name, said = json.loads(row.pop("request")), str(row.pop("name")), row.pop("said")
        turn = turn_of(row)
        return Response(turn, name, turn.text if said is None else said, self._calls_of(reply_id), request)

    def messages_to(self, turn_id: int) -> list[Message]:
        """Every message up to and including a turn."""
        rows = self._db.execute(
            f"""{LINE}
                SELECT t.id, t.role, t.text, coalesce(l.said, t.text) FROM turns t LEFT JOIN links l ON l.turn_id = t.id
                WHERE t.id IN (SELECT id FROM line) AND t.text <> '' ORDER BY t.depth""",
            {"turn": turn_id},
        ).fetchall()
        return [Message(row[1], row[2], row[3], tuple(self._calls_of(row[0]))) for row in rows]

    def _known(self, start: str, messages: Sequence[Message]) -> _Place | None:
        """Where the longest stored beginning ends, at a tip if there is one. As a rule only the last message is new."""
        for known, link in reversed(list(enumerate(chain(start, messages), 1))):
            row = self._db.execute(
                f"""SELECT t.id, c.id, c.name, {_TIP} AS tip FROM links l
                    JOIN turns t ON t.id = l.turn_id JOIN conversations c ON c.id = t.conversation_id
                    WHERE l.link = ? AND c.removed IS NULL ORDER BY tip DESC, t.id DESC LIMIT 1""",
                [link.id],
            ).fetchone()
            if row is not None:
                return _Place(known, row[0], row[1], row[2], bool(row[3]))
        return None

    def _place(self, reply_id: int) -> _Place:
        row = self._db.execute(
            f"SELECT t.id, c.id, c.name, {_TIP} FROM turns t JOIN conversations c ON c.id = t.conversation_id "
            "WHERE t.id = ?",
            [reply_id],
        ).fetchone()
        return _Place(0, row[0], row[1], row[2], bool(row[3]))

    def _entered(self, place: _Place | None, messages: Sequence[Message]) -> tuple[str, str, int | None]:
        """(id, name, last turn) of the conversation that goes on: the one found, a fork of it, or a new one."""
        if place is not None and place.is_tip:
            return place.conversation, place.name, place.turn
        name = f"api {secrets.token_hex(6)}"
        if place is None:
            conversation = self._open_conversation(name, first_line(messages[-1].said))
        else:
            conversation = self._copy_conversation(place.conversation, name)
            self._copy_turns(conversation, place.turn)
            self._copy_links(conversation, place.turn)
        self._db.execute("UPDATE conversations SET archived = 1 WHERE id = ?", [conversation])
        return conversation, name, self._tip(conversation)

    def _begin_reply(self, conversation: str, after: int | None, request: dict[str, Any] | None) -> int:
        reply = self._insert(conversation, after, "assistant", "", "pending")
        if request is not None:
            self._db.execute("INSERT INTO responses (turn_id, request) VALUES (?, ?)", [reply, json.dumps(request)])
        return reply

    def _copy_links(self, fork: str, last: int) -> None:
        """The turns of a fork have the chained ids of those that they are copies of."""
        self._db.execute(
            f"""{LINE} INSERT INTO links (turn_id, link, said)
                SELECT f.id, l.link, l.said FROM line JOIN links l ON l.turn_id = line.id
                JOIN turns f ON f.conversation_id = :fork AND f.position = line.depth""",
            {"turn": last, "fork": fork},
        )

    def _link(self, turn_id: int) -> str:
        row = self._db.execute("SELECT link FROM links WHERE turn_id = ?", [turn_id]).fetchone()
        if row is None:
            raise UsageError(
                "Nothing can go on from this reply by its id: it did not become whole (send the messages again), or it "
                "is in a conversation with long memory (name that instead)."
            )
        return str(row[0])

    def _calls_of(self, turn_id: int) -> list[Call]:
        rows = self._db.execute("SELECT tool, arguments FROM calls WHERE turn_id = ? ORDER BY position", [turn_id])
        return [Call(name=row[0], arguments=json.loads(row[1])) for row in rows.fetchall()]
