"""episodes.db in the KV folder: turns, segments, episodes and routes of all conversations. No torch in here.

Disposable like everything in that folder: turns observed again give the same segments and episodes; the routes are
lost. Whatever SQLite complains of is an OSError here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memory.database import as_os_error, committed, rewrite
from memory.episode_reader import WHAT, EpisodeReader
from memory.episode_schema import EPISODES_FILE, open_episodes
from memory.episode_view import EpisodeRow, Route
from memory.segment import TURNS, EpisodeTurn

_TABLES = ("turns", "segments", "embeddings", "memberships", "episodes", "patches", "clusterings", "routes")


class EpisodeStore(EpisodeReader):
    """One open episodes.db. Belongs to the thread that opened it."""

    def __init__(self, path: Path | None) -> None:
        """Open `path` (None: in memory only); a damaged or foreign file is replaced by an empty one.

        Raises:
            OSError: not even an empty one can be made.
        """
        super().__init__(open_episodes(path))

    # --- turns and segments ------------------------------------------------------------------------------------------

    def known(self, conversation: str) -> list[tuple[int, str, int, int]]:
        """(turn, digest, first token, last token) of every turn, in order."""
        sql = "SELECT turn, digest, first_token, last_token FROM turns WHERE conversation = ? ORDER BY position"
        return [tuple(row) for row in self._read(sql, [conversation])]

    def cut(self, conversation: str, position: int) -> None:
        """Keep only the turns before `position`, and the segments that are whole without the rest."""
        with committed(self._db, WHAT):
            self._delete("turns", conversation, "position", position)
            for table in ("segments", "embeddings", "memberships"):
                self._delete(table, conversation, "segment", position // TURNS)

    def add(self, conversation: str, position: int, turns: Sequence[EpisodeTurn], texts: Sequence[str]) -> None:
        """Append turns from `position` on, with what their segment says of each, and make the segments they finish."""
        rows = [
            (conversation, position + at, turn.id, turn.speaker, turn.date, text, turn.digest, turn.first, turn.last)
            for at, (turn, text) in enumerate(zip(turns, texts, strict=True))
        ]
        with committed(self._db, WHAT):
            self._many("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute(
                """INSERT INTO segments
                   SELECT conversation, position / :turns, min(turn), max(turn), min(first_token), max(last_token),
                          coalesce(group_concat(nullif(text, ''), char(10) ORDER BY position), '')
                   FROM turns WHERE conversation = :conversation AND position >= :first
                   GROUP BY position / :turns HAVING count(*) = :turns""",
                {"turns": TURNS, "conversation": conversation, "first": position - position % TURNS},
            )

    def open_date(self, conversation: str, position: int) -> str | None:
        """The date that stands last in the unfinished segment that ends before `position`."""
        rows = self._read(
            "SELECT date FROM turns WHERE conversation = ? AND position >= ? AND position < ? AND text <> '' "
            "AND date IS NOT NULL ORDER BY position DESC LIMIT 1",
            [conversation, position - position % TURNS, position],
        )
        return str(rows[0][0]) if rows else None

    def move(self, conversation: str, position: int, spans: Sequence[tuple[int, int]]) -> None:
        """Other token spans for turns from `position` on: the same text read by another model."""
        rows = [(first, last, conversation, position + at) for at, (first, last) in enumerate(spans)]
        with committed(self._db, WHAT):
            self._many("UPDATE turns SET first_token = ?, last_token = ? WHERE conversation = ? AND position = ?", rows)
            self._db.execute(
                """UPDATE segments SET (first_token, last_token) =
                       (SELECT min(t.first_token), max(t.last_token) FROM turns t
                        WHERE t.conversation = segments.conversation AND t.position / ? = segments.segment)
                   WHERE conversation = ?""",
                [TURNS, conversation],
            )

    def texts(self, conversation: str, segments: Iterable[int]) -> dict[int, list[str]]:
        """What each turn of these segments says."""
        found = dict[int, list[str]]()
        for segment in segments:
            sql = "SELECT text FROM turns WHERE conversation = ? AND position >= ? AND position < ? ORDER BY position"
            rows = self._read(sql, [conversation, segment * TURNS, (segment + 1) * TURNS])
            found[segment] = [str(row[0]) for row in rows]
        return found

    def speakers(self, conversation: str) -> set[str]:
        """Everybody who spoke."""
        return {
            str(row[0])
            for row in self._read("SELECT DISTINCT speaker FROM turns WHERE conversation = ?", [conversation])
        }

    # --- embeddings and episodes -------------------------------------------------------------------------------------

    def pending(self, conversation: str, encoder: str, limit: int) -> list[int]:
        """The first finished segments that say something and have no vector of this encoder."""
        rows = self._read(
            """SELECT s.segment FROM segments s
               LEFT JOIN embeddings e ON e.conversation = s.conversation AND e.segment = s.segment AND e.encoder = ?
               WHERE s.conversation = ? AND s.text <> '' AND e.segment IS NULL ORDER BY s.segment LIMIT ?""",
            [encoder, conversation, limit],
        )
        return [int(row[0]) for row in rows]

    def put_vectors(self, conversation: str, encoder: str, vectors: Mapping[int, bytes]) -> None:
        """Record float32 vectors by segment."""
        rows = [(conversation, segment, encoder, len(vector) // 4, vector) for segment, vector in vectors.items()]
        with committed(self._db, WHAT):
            self._many("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?)", rows)

    def vectors(self, conversation: str, encoder: str) -> list[tuple[int, bytes]]:
        """(segment, vector) in order."""
        sql = "SELECT segment, vector FROM embeddings WHERE conversation = ? AND encoder = ? ORDER BY segment"
        return [(int(row[0]), bytes(row[1])) for row in self._read(sql, [conversation, encoder])]

    def save(
        self,
        conversation: str,
        episodes: Sequence[EpisodeRow],
        members: Iterable[tuple[int, int, float]],
        clusterings: Iterable[tuple[int, int, float, str]],
    ) -> None:
        """Replace what is known of a conversation's episodes; those that are no more are kept as retired."""
        with committed(self._db, WHAT):
            self._db.execute(
                "UPDATE episodes SET state = 'retired', segments = 0, medoid = NULL, cohesion = NULL, centroid = NULL "
                "WHERE conversation = ?",
                [conversation],
            )
            for table in ("memberships", "patches", "clusterings"):
                self._db.execute(f"DELETE FROM {table} WHERE conversation = ?", [conversation])
            self._many(
                "INSERT OR REPLACE INTO episodes VALUES (?, ?, 'current', ?, ?, ?, ?, ?)",
                [(conversation, e.episode, e.title, e.segments, e.medoid, e.cohesion, e.centroid) for e in episodes],
            )
            self._many("INSERT INTO memberships VALUES (?, ?, ?, ?)", [(conversation, *row) for row in members])
            self._many(
                "INSERT INTO patches VALUES (?, ?, ?, ?)",
                [(conversation, e.episode, str(list(e.patch_segments)), e.patch) for e in episodes],
            )
            self._many("INSERT INTO clusterings VALUES (?, ?, ?, ?, ?)", [(conversation, *row) for row in clusterings])

    def memberships(self, conversation: str) -> dict[int, int]:
        """The episode of each segment."""
        sql = "SELECT segment, episode FROM memberships WHERE conversation = ? ORDER BY segment"
        return {int(row[0]): int(row[1]) for row in self._read(sql, [conversation])}

    def clusterings(self, conversation: str) -> list[tuple[int, int, float, str]]:
        """(segments, episodes, cohesion, reason) of every time that everything was grouped, in order."""
        sql = "SELECT segments, episodes, cohesion, reason FROM clusterings WHERE conversation = ? ORDER BY segments"
        return [tuple(row) for row in self._read(sql, [conversation])]

    def last_id(self, conversation: str) -> int:
        """The highest id that an episode ever had; 0 when there was none."""
        sql = "SELECT coalesce(max(episode), 0) FROM episodes WHERE conversation = ?"
        return int(self._read(sql, [conversation])[0][0])

    def centroids(self, conversation: str) -> list[tuple[int, bytes]]:
        """(episode, centroid) of the current episodes, in order."""
        sql = "SELECT episode, centroid FROM episodes WHERE conversation = ? AND state = 'current' ORDER BY episode"
        return [(int(row[0]), bytes(row[1])) for row in self._read(sql, [conversation])]

    def patch(self, conversation: str, episode: int) -> str:
        """The patch of an episode; empty when there is none."""
        rows = self._read("SELECT text FROM patches WHERE conversation = ? AND episode = ?", [conversation, episode])
        return str(rows[0][0]) if rows else ""

    def patches(self, conversation: str) -> dict[int, str]:
        """The patches of the current episodes, the largest one's first."""
        sql = (
            "SELECT p.episode, p.text FROM patches p "
            "JOIN episodes e ON e.conversation = p.conversation AND e.episode = p.episode "
            "WHERE p.conversation = ? ORDER BY e.segments DESC, e.episode"
        )
        return {int(row[0]): str(row[1]) for row in self._read(sql, [conversation])}

    # --- routes ------------------------------------------------------------------------------------------------------

    def log(self, conversation: str, route: Route) -> None:
        """Record where a question went, as the newest; a question asked again is recorded again."""
        with committed(self._db, WHAT):
            self._db.execute(
                """INSERT INTO routes (conversation, number, turn, asked, episode, similarity, runner_up,
                                       runner_up_similarity, switched, new, nearest, recalled)
                   SELECT :c, coalesce(max(number) + 1, 1), :turn, :asked, :episode, :similarity, :runner_up,
                          :runner_up_similarity, :switched, :new, :nearest, :recalled
                   FROM routes WHERE conversation = :c""",
                {"c": conversation} | {name: getattr(route, name) for name in Route.__slots__ if name != "number"},
            )

    def set_recalled(self, conversation: str, turn: int, recalled: str) -> None:
        """What the reply to a question fetched, as JSON."""
        with committed(self._db, WHAT):
            self._db.execute(
                "UPDATE routes SET recalled = ? WHERE conversation = ? AND number = "
                "(SELECT max(number) FROM routes WHERE conversation = ? AND turn = ?)",
                [recalled, conversation, conversation, turn],
            )

    # --- forgetting --------------------------------------------------------------------------------------------------

    def forget(self, conversation: str) -> bool:
        """Remove everything of a conversation and the bytes it lay in; whether there was anything."""
        with committed(self._db, WHAT):
            sql = "DELETE FROM {} WHERE conversation = ?"
            gone = sum(self._db.execute(sql.format(table), [conversation]).rowcount for table in _TABLES)
        if gone:
            with as_os_error(WHAT):
                rewrite(self._db)
        return bool(gone)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._db.conn.executemany(sql, rows)

    def _delete(self, table: str, conversation: str, column: str, first: int) -> None:
        self._db.execute(f"DELETE FROM {table} WHERE conversation = ? AND {column} >= ?", [conversation, first])


def forget_episodes(folder: Path, conversation: str) -> None:
    """Remove everything of a conversation from the database in the KV folder, if there is one.

    Raises:
        OSError: it could not be removed.
    """
    path = folder / EPISODES_FILE
    if path.exists():
        store = EpisodeStore(path)
        try:
            store.forget(conversation)
        finally:
            store.close()
