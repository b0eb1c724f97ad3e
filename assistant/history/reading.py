"""Reading the history: lists of conversations, pages of turns, what a model is given, full-text search."""

from __future__ import annotations

import json
import sys
from itertools import takewhile

from assistant.errors import UsageError
from assistant.history.base import LINE, Base, UnknownConversation, turn_of, unpack_ids
from assistant.history.excerpt import excerpt
from assistant.orders import WorkerTurn
from assistant.protocol import Conversation, Hit, Turn

_CONVERSATION = """
    SELECT c.id, coalesce(c.name_before, c.name) AS name, c.title, c.created, c.updated, c.pinned, c.archived,
           c.removed, (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id AND t.shown) AS turns,
           (SELECT o.name FROM conversations o WHERE o.id = c.origins ->> 0 AND o.removed IS NULL) AS origin
    FROM conversations c"""
_LONG_PROMPT = 10_000
_MOST_WORDS = 64
_LATEST = "(SELECT t.id FROM turns t WHERE t.conversation_id = c.id ORDER BY t.position DESC LIMIT 1)"
_SAME_PLACE = "s.parent IS t.parent AND s.role = t.role AND s.conversation_id = t.conversation_id"
_TURN = f"""
    SELECT t.id, t.role, t.text, t.state, t.created, t.usage, t.parent, t.shown,
           (SELECT count(*) FROM turns s WHERE {_SAME_PLACE} AND s.id <= t.id) AS version,
           (SELECT count(*) FROM turns s WHERE {_SAME_PLACE}) AS versions
    FROM turns t"""


class Reading(Base):
    """What can be asked of the history."""

    def names(self) -> dict[str, str]:
        """The name of every conversation, by its id."""
        rows = self._db.execute("SELECT id, coalesce(name_before, name) FROM conversations")
        return {str(row[0]): str(row[1]) for row in rows}

    def origins(self, conversation_id: str) -> list[str]:
        """Ids of the conversations that this one was forked from, nearest first."""
        row = self._db.execute("SELECT origins FROM conversations WHERE id = ?", [conversation_id]).fetchone()
        return [] if row is None else list(map(str, json.loads(row[0])))

    def heirs(self, conversation_id: str) -> dict[str, list[int]]:
        """The conversations that were forked from this one, and the ids of what was read of the path each shows."""
        rows = self._db.execute(
            "SELECT c.id FROM conversations c, json_each(c.origins) o WHERE o.value = ?", [conversation_id]
        )
        return {str(row[0]): self._read_ids(str(row[0])) for row in rows.fetchall()}

    def conversation(self, name: str) -> Conversation:
        """The conversation of exactly this name."""
        return self._described(self.find(name))

    def conversations(self, query: str = "", archived: bool = False, removed: bool = False) -> list[Conversation]:
        """Conversations whose name or title contains `query`: pinned ones first, then the one written to last.

        `archived`: archived ones too, at the end; `removed`: instead those that were put away.
        """
        rows = self._db.query(
            f"""{_CONVERSATION}
                WHERE (instr(lower(coalesce(c.name_before, c.name)), lower(:query))
                       OR instr(lower(c.title), lower(:query)))
                  AND c.archived <= :archived AND (c.removed IS NOT NULL) = :removed
                ORDER BY c.archived, c.pinned DESC, c.removed DESC, {_LATEST} DESC""",
            {"query": query, "archived": archived or removed, "removed": removed},
        )
        return [Conversation(**row) for row in rows]

    def owner(self, turn_id: int) -> Conversation:
        """The conversation that a turn is in."""
        row = self._db.execute(
            "SELECT c.id FROM turns t JOIN conversations c ON c.id = t.conversation_id "
            "WHERE t.id = ? AND c.removed IS NULL",
            [turn_id],
        ).fetchone()
        if row is None:
            raise UnknownConversation(f"There is no turn {turn_id} in any conversation.")
        return self._described(str(row[0]))

    def turns(self, name: str, before: int | None = None, limit: int = 50, versions: bool = False) -> list[Turn]:
        """The newest `limit` turns (of those with an id below `before`), oldest first.

        Those of the path that is shown, or with `versions` all that there are. Along a path ids grow.
        """
        which, order = ("", "t.position") if versions else ("AND t.shown", "t.depth")
        rows = self._db.query(
            f"{_TURN} WHERE t.conversation_id = ? AND t.id < ? {which} ORDER BY {order} DESC LIMIT ?",
            [self.find(name), sys.maxsize if before is None else before, limit],
        )
        return [turn_of(row) for row in rows][::-1]

    def siblings(self, name: str, turn_id: int) -> list[Turn]:
        """The versions of a turn, itself included: those of the same role after the same turn, oldest first."""
        rows = self._db.query(
            f"{_TURN} JOIN turns s ON {_SAME_PLACE} WHERE s.id = ? AND s.conversation_id = ? ORDER BY t.id",
            [turn_id, self.find(name)],
        )
        if found := [turn_of(row) for row in rows]:
            return found
        raise UnknownConversation(f"There is no turn {turn_id} in the conversation {name!r}.")

    def read(self, conversation_id: str, model: str, before: int | None = None) -> list[WorkerTurn]:
        """All turns with text on the way to turn `before`; their recorded ids where `model` itself wrote them.

        Without `before`: those of the path that is shown.
        """
        start = self._tip(conversation_id) if before is None else self._parent(before)
        rows = self._db.query(
            f"""{LINE}
                SELECT id, role, text, created, iif(token_model = :model, token_ids, NULL) AS token_ids FROM turns
                WHERE id IN (SELECT id FROM line) AND state <> 'pending' AND text <> '' ORDER BY depth""",
            {"turn": start, "model": model},
        )
        return [WorkerTurn(**{**row, "token_ids": unpack_ids(row["token_ids"])}) for row in rows]

    def prompts(self, limit: int = 200) -> list[str]:
        """What the user wrote last, each text once, the newest first; very long ones are left out."""
        rows = self._db.execute(
            """SELECT t.text FROM turns t JOIN conversations c ON c.id = t.conversation_id
               WHERE t.role = 'user' AND c.removed IS NULL AND length(t.text) <= ?
               GROUP BY t.text ORDER BY max(t.id) DESC LIMIT ?""",
            [_LONG_PROMPT, limit],
        )
        return [str(row[0]) for row in rows]

    def search(self, words: str, limit: int = 20, conversation: str | None = None) -> list[Hit]:
        """Turns that contain all of `words` (the last one may be the beginning of a word), best first.

        What forks share with their origin is found there only, unless a `conversation` is named.
        """
        wanted = _wanted(words)
        terms = " ".join('"' + word.replace('"', '""') + '"' for word in wanted) + "*"
        within = None if conversation is None else self.find(conversation)
        rows = self._db.query(
            """SELECT c.name AS conversation, t.id AS turn_id, t.role, t.created, t.text
               FROM turns_fts JOIN turns t ON t.id = turns_fts.rowid JOIN conversations c ON c.id = t.conversation_id
               WHERE turns_fts MATCH :terms AND c.removed IS NULL AND c.id = coalesce(:within, c.id)
                 AND (:within IS NOT NULL OR NOT EXISTS (
                      SELECT 1 FROM turns o JOIN conversations oc ON oc.id = o.conversation_id
                      WHERE o.id = t.copy_of AND oc.removed IS NULL))
               ORDER BY turns_fts.rank, t.id DESC LIMIT :limit""",
            {"terms": terms, "within": within, "limit": limit},
        )
        return [Hit(snippet=excerpt(row.pop("text"), wanted), **row) for row in rows]

    def _described(self, conversation_id: str) -> Conversation:
        return Conversation(**next(self._db.query(f"{_CONVERSATION} WHERE c.id = ?", [conversation_id])))

    def _read_ids(self, conversation_id: str) -> list[int]:
        rows = self._db.execute(
            "SELECT token_ids FROM turns WHERE conversation_id = ? AND shown AND text <> '' ORDER BY depth",
            [conversation_id],
        )
        read = takewhile(lambda ids: ids is not None, (unpack_ids(row[0]) for row in rows.fetchall()))
        return [token for ids in read for token in ids or ()]

    def _parent(self, turn_id: int) -> int | None:
        row = self._db.execute("SELECT parent FROM turns WHERE id = ?", [turn_id]).fetchone()
        return None if row is None else row[0]


def _wanted(words: str) -> list[str]:
    """The words of a search, each once, the last one at the end.

    Raises:
        UsageError: there are none, or too many.
    """
    said = words.replace("\0", " ").split()  # FTS5 reads up to it
    wanted = list(dict.fromkeys(said[::-1]))[::-1]
    if not wanted:
        raise UsageError("A search needs at least one word.")
    if len(wanted) > _MOST_WORDS:
        raise UsageError(f"A search takes {_MOST_WORDS} different words at most; these are {len(wanted):,}.")
    return wanted
