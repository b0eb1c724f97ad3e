"""The tree of a conversation's turns: versions, the path that is shown, and forks.

At most one turn of every depth is shown (an index of the database sees to it): together they are the path.
"""

from __future__ import annotations

import json
import re
import secrets

from assistant.history.base import LINE, Base, Conflict, NameTaken, UnknownConversation, now

LONGEST_NAME = 80
_COPIED = "role, text, token_ids, token_model, usage, created"
_NUMBERED = re.compile(r" \(\d+\)$")


class Tree(Base):
    """Which of the versions is shown, and conversations that begin like another one."""

    def choose(self, name: str, turn_id: int) -> None:
        """Make the path go through a turn, and on to what was last written after it."""
        conversation_id = self.find(name)
        self._turn_in(name, conversation_id, turn_id)
        leaf = self._db.execute(
            """WITH RECURSIVE below(id) AS (
                   SELECT ? UNION ALL SELECT t.id FROM below JOIN turns t ON t.parent = below.id)
               SELECT max(id) FROM below""",
            [turn_id],
        ).fetchone()[0]
        with self._commit():
            self._show(conversation_id, leaf)

    def fork(self, name: str, turn_id: int | None = None, new: str | None = None) -> str:
        """Begin a conversation with the turns up to and including `turn_id` (None: with all of them); its name."""
        source = self.find(name)
        last = self._tip(source) if turn_id is None else turn_id
        if last is None:
            raise Conflict(f"The conversation {name!r} has no turns yet; there is nothing to fork.")
        self._turn_in(name, source, last)
        with self._commit():
            fork = new or self._free_name(name)
            if self._db.execute("SELECT 1 FROM conversations WHERE name = ?", [fork]).fetchone():
                raise NameTaken(f"There is already a conversation {fork!r}; choose another name.")
            self._copy_turns(self._copy_conversation(source, fork), last)
        return fork

    def _replace(self, name: str, conversation_id: str, turn_id: int, text: str) -> int:
        """The user turn that `text` is, as another version of `turn_id` or that one itself; the path ends with it."""
        role, old, parent = self._turn_in(name, conversation_id, turn_id)
        if role != "user":
            raise Conflict(f"Turn {turn_id} of the conversation {name!r} was not written by you; nothing was stored.")
        if text == old:
            self._show(conversation_id, turn_id)
            return turn_id
        self._show(conversation_id, parent)
        return self._insert(conversation_id, parent, "user", text, "done")

    def _show(self, conversation_id: str, turn_id: int | None) -> None:
        """Show exactly the turns that lead to `turn_id`, itself included."""
        at = {"conversation": conversation_id, "turn": turn_id}
        self._db.execute(
            f"""{LINE} UPDATE turns SET shown = 0
                WHERE conversation_id = :conversation AND shown AND id NOT IN (SELECT id FROM line)""",
            at,
        )
        self._db.execute(f"{LINE} UPDATE turns SET shown = 1 WHERE id IN (SELECT id FROM line) AND NOT shown", at)

    def _turn_in(self, name: str, conversation_id: str, turn_id: int) -> tuple[str, str, int | None]:
        """Role, text and parent of a turn of this conversation."""
        row = self._db.execute(
            "SELECT role, text, parent FROM turns WHERE id = ? AND conversation_id = ?", [turn_id, conversation_id]
        ).fetchone()
        if row is None:
            raise UnknownConversation(f"There is no turn {turn_id} in the conversation {name!r}.")
        return str(row[0]), str(row[1]), row[2]

    def _copy_conversation(self, source: str, name: str) -> str:
        row = self._db.execute("SELECT origins FROM conversations WHERE id = ?", [source]).fetchone()
        origins = json.dumps([source, *json.loads(row[0])])
        fork = secrets.token_hex(16)
        self._db.execute(
            """INSERT INTO conversations (id, name, title, titled, title_turns, origins, created, updated)
               SELECT :fork, :name, title, titled, title_turns, :origins, :now, :now
               FROM conversations WHERE id = :source""",
            {"fork": fork, "name": name, "source": source, "origins": origins, "now": now()},
        )
        return fork

    def _copy_turns(self, fork: str, last: int) -> None:
        """The turns that lead to `last`; a reply that is still being written comes along as far as it is."""
        self._db.execute(
            f"""{LINE} INSERT INTO turns (conversation_id, position, depth, copy_of, state, {_COPIED})
                SELECT :fork, depth, depth, coalesce(copy_of, id),
                       iif(state = 'pending', 'interrupted', state), {_COPIED}
                FROM turns WHERE id IN (SELECT id FROM line) ORDER BY depth""",
            {"turn": last, "fork": fork},
        )
        self._db.execute(
            """UPDATE turns SET parent = p.id FROM turns p
               WHERE turns.conversation_id = :fork AND p.conversation_id = :fork AND p.position = turns.position - 1""",
            {"fork": fork},
        )

    def _free_name(self, name: str) -> str:
        """The name with the next number that no other conversation has."""
        stem, number = _NUMBERED.sub("", name), 2
        taken = {str(row[0]) for row in self._db.execute("SELECT name FROM conversations")}
        while (found := f"{stem[: LONGEST_NAME - len(f' ({number})')]} ({number})") in taken:
            number += 1
        return found
