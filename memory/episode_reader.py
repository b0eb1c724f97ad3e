"""What episodes.db says, to whoever asks: the worker that writes it, or the daemon beside it. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from memory.database import as_os_error, open_read_only
from memory.episode_view import EpisodeView, Route, SegmentView, TurnView
from memory.segment import TURNS

WHAT = "the episodes"
_ROUTE = "turn, episode, similarity, runner_up, runner_up_similarity, switched, new, number, asked, nearest, recalled"


class EpisodeReader:
    """An open episodes.db. Belongs to the thread that opened it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @classmethod
    def look(cls, path: Path) -> EpisodeReader:
        """Open a file that another process may be writing.

        Raises:
            OSError: it cannot be read.
        """
        with as_os_error(WHAT):
            return EpisodeReader(open_read_only(path))

    def close(self) -> None:
        """Close the file; the WAL is folded into it."""
        with as_os_error(WHAT):
            self._db.close()

    def segments(self, conversation: str) -> list[SegmentView]:
        """Every segment in order, the unfinished one last."""
        rows = self._read(
            """SELECT t.position / ?, m.episode, m.similarity, t.turn, t.speaker, t.date, t.text, t.first_token,
                      t.last_token
               FROM turns t LEFT JOIN memberships m ON m.conversation = t.conversation AND m.segment = t.position / ?
               WHERE t.conversation = ? ORDER BY t.position""",
            [TURNS, TURNS, conversation],
        )
        found = dict[int, list[Any]]()
        for row in rows:
            found.setdefault(int(row[0]), []).append(row)
        return [
            SegmentView(segment, tuple(TurnView(*row[3:]) for row in turns), turns[0][1], turns[0][2])
            for segment, turns in found.items()
        ]

    def map(self, conversation: str) -> list[EpisodeView]:
        """The current episodes with their segments."""
        segments = self.segments(conversation)
        rows = self._read(
            "SELECT episode, title, medoid, cohesion FROM episodes "
            "WHERE conversation = ? AND state = 'current' ORDER BY episode",
            [conversation],
        )
        return [
            EpisodeView(number, title, medoid, cohesion, tuple(one for one in segments if one.episode == number))
            for number, title, medoid, cohesion in rows
        ]

    def titles(self, conversation: str) -> dict[int, str]:
        """The title of every episode there ever was."""
        rows = self._read("SELECT episode, title FROM episodes WHERE conversation = ?", [conversation])
        return {int(row[0]): str(row[1]) for row in rows}

    def routes(self, conversation: str) -> list[Route]:
        """Every route, the newest last; what a file of an earlier version has no column for is None."""
        there = {row[1] for row in self._read("PRAGMA table_info(routes)")}
        columns = ", ".join(name if name in there else "NULL" for name in _ROUTE.split(", "))
        rows = self._read(f"SELECT {columns} FROM routes WHERE conversation = ? ORDER BY number", [conversation])
        return [_route(row) for row in rows]

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with as_os_error(WHAT):
            return self._db.execute(sql, values).fetchall()


def _route(row: Any) -> Route:
    values = dict(zip(_ROUTE.split(", "), row, strict=True))
    return Route(**values | {"switched": bool(values["switched"]), "new": bool(values["new"])})
