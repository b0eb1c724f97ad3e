"""scores.db in the KV folder: what patches asked, and how much each stored chunk mattered to them. No torch in here.

Disposable: what is missing is scored again. Whatever SQLite complains of is an OSError here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sqlite_utils import Database, Migrations

from memory.database import DatabaseError, as_os_error, committed, open_disposable, rewrite

SCORES_FILE = "scores.db"
SCORES_DB = Migrations("scores")
_WHAT = "the scores"

KEPT = 8
"""Patches of a conversation that are kept: those that a turn began with last, or that were made since."""


class ScoreStore:
    """One open scores.db. Belongs to the thread that opened it."""

    def __init__(self, path: Path) -> None:
        """Open `path`; a damaged or foreign file is replaced by an empty one.

        Raises:
            OSError: not even an empty one can be made.
        """
        self.path = path
        self._db = open_disposable(path, SCORES_DB, _WHAT)

    def close(self) -> None:
        """Close the file; the WAL is folded into it."""
        with suppress(DatabaseError):
            self._db.close()

    # --- patches -----------------------------------------------------------------------------------------------------

    def patch(self, patch: str) -> tuple[bytes, bytes] | None:
        """(queries, norms) of a patch, None when it was never read."""
        with as_os_error(_WHAT):
            found = self._db.execute("SELECT queries, norms FROM patches WHERE patch = ?", [patch]).fetchone()
        return None if found is None else (bytes(found[0]), bytes(found[1]))

    def put_patch(self, patch: str, conversation: str, tokens: int, queries: bytes, norms: bytes) -> None:
        """Record what a patch of `tokens` tokens asks, without scores; the conversation's oldest patches leave."""
        with committed(self._db, _WHAT):
            self._remove([patch])
            self._db.execute(
                "INSERT INTO patches (patch, conversation, tokens, queries, norms, used) "
                "SELECT ?, ?, ?, ?, ?, coalesce(max(used), 0) + 1 FROM patches",
                [patch, conversation, tokens, queries, norms],
            )
            old = self._db.execute(
                "SELECT patch FROM patches WHERE conversation = ? ORDER BY used DESC LIMIT -1 OFFSET ?",
                [conversation, KEPT],
            )
            self._remove([row[0] for row in old.fetchall()])

    def touch(self, patch: str) -> None:
        """A turn begins with this patch; nothing happens where it is not known."""
        with committed(self._db, _WHAT):
            sql = "UPDATE patches SET used = (SELECT max(used) + 1 FROM patches) WHERE patch = ?"
            self._db.execute(sql, [patch])

    # --- scores ------------------------------------------------------------------------------------------------------

    def scores(self, patch: str, chains: Sequence[str]) -> list[bytes | None]:
        """What is known of each chunk, told by the chained id (hex) of its row."""
        sql = (
            "SELECT s.scores FROM json_each(?) wanted LEFT JOIN scores s ON s.patch = ? AND s.chain = wanted.value "
            "ORDER BY wanted.key"
        )
        with as_os_error(_WHAT):
            return [row[0] for row in self._db.execute(sql, [json.dumps(chains), patch])]

    def add(self, patch: str, scores: Iterable[tuple[str, bytes]]) -> None:
        """Record the scores of chunks by chained id; those of a patch that is gone are not kept."""
        sql = "INSERT OR REPLACE INTO scores (patch, chain, scores) SELECT patch, ?, ? FROM patches WHERE patch = ?"
        with committed(self._db, _WHAT):
            self._db.conn.executemany(sql, [(chain, data, patch) for chain, data in scores])

    # --- keeping it small --------------------------------------------------------------------------------------------

    def forget(self, conversation: str) -> None:
        """Remove a conversation, and the bytes it lay in."""
        with committed(self._db, _WHAT):
            gone = self._db.execute("SELECT patch FROM patches WHERE conversation = ?", [conversation]).fetchall()
            self._remove([row[0] for row in gone])
        if gone:
            self._shrink()

    def keep(self, chains: Mapping[str, Collection[str]]) -> int:
        """Remove what belongs to no stored row: `chains` are all chained ids by conversation. Patches removed."""
        with as_os_error(_WHAT):
            patches = self._db.execute("SELECT patch, conversation FROM patches").fetchall()
        gone = [patch for patch, conversation in patches if conversation not in chains]
        lost = 0
        with committed(self._db, _WHAT):
            self._remove(gone)
            for patch, conversation in patches:
                if conversation in chains:
                    sql = "DELETE FROM scores WHERE patch = ? AND chain NOT IN (SELECT value FROM json_each(?))"
                    lost += self._db.execute(sql, [patch, json.dumps(list(chains[conversation]))]).rowcount
        if gone or lost:
            self._shrink()
        return len(gone)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _remove(self, patches: Sequence[str]) -> None:
        for table in ("scores", "patches"):
            self._db.conn.executemany(f"DELETE FROM {table} WHERE patch = ?", [(patch,) for patch in patches])

    def _shrink(self) -> None:
        with as_os_error(_WHAT):
            rewrite(self._db)


@SCORES_DB()
def s001_patches_and_scores(db: Database) -> None:
    """What a patch asks in every layer, and the scores of 64 tokens for every layer and head."""
    db.execute("""
        CREATE TABLE patches (
            patch TEXT PRIMARY KEY,
            conversation TEXT NOT NULL,
            tokens INTEGER NOT NULL,
            queries BLOB NOT NULL,
            norms BLOB NOT NULL,
            used INTEGER NOT NULL
        ) STRICT""")
    db.execute("CREATE INDEX patches_conversation ON patches (conversation, used)")
    db.execute("""
        CREATE TABLE scores (
            patch TEXT NOT NULL,
            chain TEXT NOT NULL,
            scores BLOB NOT NULL,
            PRIMARY KEY (patch, chain)
        ) STRICT""")
