"""How history.db is opened and what its schema is: an ordered list of migrations, applied once and recorded.

WAL with synchronous=FULL, so that a commit survives power loss; never mmap; only a SQLite with the WAL-reset fix.
A migration that was released is never edited: a change is a new function at the end.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlite_utils import Database, Migrations
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # the module that sqlite-utils itself uses

from assistant.errors import AssistantError
from assistant.places import private

OLDEST_SQLITE = (3, 51, 3)
"""First release in which a write and a checkpoint at the wrong moment cannot lose committed pages of a WAL file."""

DatabaseError: type[Exception] = sqlite3.DatabaseError
IntegrityError: type[Exception] = sqlite3.IntegrityError
HISTORY = Migrations("history")

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "busy_timeout = 5000",
    "mmap_size = 0",
    "secure_delete = ON",
    "trusted_schema = OFF",
)


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite that can lose committed turns."""
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, parts)) for parts in (version, OLDEST_SQLITE))
        raise AssistantError(
            f"SQLite {have} can lose committed turns (WAL-reset bug); {need} or later is needed: pip install pysqlite3."
        )


def open_history(path: Path) -> Database:
    """Open `path` (0600 in a 0700 folder), check it, bring its schema up to date.

    Raises:
        AssistantError: the file is damaged, no database, or from a newer version; it is left as it is.
    """
    check_sqlite()
    _create_private(path)
    connection = sqlite3.connect(str(path), timeout=5.0)
    try:
        return _prepared(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise AssistantError(
            f"The history {path} cannot be opened: {error}. Nothing was changed; put a backup in its place or move "
            "it away to begin a new one."
        ) from error


def _prepared(connection: Any) -> Database:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    db = Database(connection)
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"the file is damaged ({found})")
    _refuse_newer(db)
    HISTORY.apply(db)
    return db


def _refuse_newer(db: Database) -> None:
    applied = {migration.name for migration in HISTORY.applied(db)}
    if unknown := applied - {m001_conversations_and_turns.__name__, m002_search.__name__}:
        raise sqlite3.DatabaseError(f"a newer version of the assistant wrote it ({', '.join(sorted(unknown))})")


def _create_private(path: Path) -> None:
    """Make the file 0600 before SQLite opens it: -wal and -shm take their mode from it."""
    private(path.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


@HISTORY()
def m001_conversations_and_turns(db: Database) -> None:
    """Conversations under a unique name, and their turns in order."""
    db.execute("""
        CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            title TEXT NOT NULL,
            created TEXT NOT NULL,
            updated TEXT NOT NULL
        ) STRICT""")
    db.execute("""
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'transcript')),
            text TEXT NOT NULL,
            token_ids BLOB,
            token_model TEXT,
            state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'interrupted')),
            usage TEXT CHECK (usage IS NULL OR json_valid(usage)),
            created TEXT NOT NULL,
            CHECK ((token_ids IS NULL) = (token_model IS NULL)),
            UNIQUE (conversation_id, position)
        ) STRICT""")


@HISTORY()
def m002_search(db: Database) -> None:
    """Full-text index of all turns that are not being written: check-points of a reply never touch it."""
    db.execute("""
        CREATE VIRTUAL TABLE turns_fts USING fts5(
            text, content='turns', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
        )""")
    db.execute("INSERT INTO turns_fts(turns_fts, rank) VALUES ('secure-delete', 1)")
    db.execute("""
        CREATE TRIGGER turns_added AFTER INSERT ON turns WHEN new.state <> 'pending' BEGIN
            INSERT INTO turns_fts(rowid, text) VALUES (new.id, new.text);
        END""")
    db.execute("""
        CREATE TRIGGER turns_removed AFTER DELETE ON turns WHEN old.state <> 'pending' BEGIN
            INSERT INTO turns_fts(turns_fts, rowid, text) VALUES ('delete', old.id, old.text);
        END""")
    db.execute("""
        CREATE TRIGGER turns_changed AFTER UPDATE OF text, state ON turns BEGIN
            INSERT INTO turns_fts(turns_fts, rowid, text)
                SELECT 'delete', old.id, old.text WHERE old.state <> 'pending';
            INSERT INTO turns_fts(rowid, text) SELECT new.id, new.text WHERE new.state <> 'pending';
        END""")
