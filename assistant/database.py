"""history.db: how it is opened, and its schema as an ordered list of migrations, applied once and recorded.

Commits survive power loss (`memory.database`, synchronous=FULL). A migration that was released is never edited: a
change is a new function at the end.
"""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database, Migrations

from assistant.errors import AssistantError
from assistant.places import private
from memory.database import DatabaseError, IntegrityError, OldSqlite, open_database

HISTORY = Migrations("history")

__all__ = ["HISTORY", "DatabaseError", "IntegrityError", "open_history"]


def open_history(path: Path) -> Database:
    """Open `path` (0600 in a 0700 folder), check it, bring its schema up to date.

    Raises:
        AssistantError: the file is damaged, no database, or from a newer version (it is left as it is), or SQLite
            itself is too old.
    """
    private(path.parent)
    try:
        return open_database(path, HISTORY, "FULL")
    except OldSqlite as error:
        raise AssistantError(str(error)) from error
    except DatabaseError as error:
        raise AssistantError(
            f"The history {path} cannot be opened: {error}. Nothing was changed; put a backup in its place or move "
            "it away to begin a new one."
        ) from error


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
    _index_turns(db)


@HISTORY()
def m003_tree(db: Database) -> None:
    """Turns have a parent, one path of them is shown; conversations are pinned, archived, forked and put away.

    `position` stays the order in which turns were written. Every turn of an earlier history is on the one path it had.
    """
    for column in (
        "pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))",
        "archived INTEGER NOT NULL DEFAULT 0 CHECK (archived IN (0, 1))",
        "titled INTEGER NOT NULL DEFAULT 0 CHECK (titled IN (0, 1))",
        "origins TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(origins))",
        "removed TEXT",
        "name_before TEXT",
    ):
        db.execute(f"ALTER TABLE conversations ADD COLUMN {column}")
    for column in (
        "parent INTEGER REFERENCES turns(id)",
        "depth INTEGER NOT NULL DEFAULT 0",
        "shown INTEGER NOT NULL DEFAULT 1 CHECK (shown IN (0, 1))",
    ):
        db.execute(f"ALTER TABLE turns ADD COLUMN {column}")
    db.execute("""
        UPDATE turns SET parent = found.before, depth = found.rank
        FROM (SELECT id, lag(id) OVER line AS before, row_number() OVER line - 1 AS rank FROM turns
              WINDOW line AS (PARTITION BY conversation_id ORDER BY position)) AS found
        WHERE found.id = turns.id""")
    db.execute("CREATE INDEX turns_parent ON turns (parent, conversation_id)")
    db.execute("CREATE UNIQUE INDEX turns_path ON turns (conversation_id, depth) WHERE shown")


@HISTORY()
def m004_titles_and_copies(db: Database) -> None:
    """How many turns a title was made of (0: it is the first line), and which turn one of a fork is a copy of."""
    db.execute("ALTER TABLE conversations ADD COLUMN title_turns INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE turns ADD COLUMN copy_of INTEGER")


@HISTORY()
def m005_programs(db: Database) -> None:
    """Turns may be results of tools; programs, their calls, and what was allowed to be called.

    A CHECK cannot be changed in place: the turns are copied, their parents last, so that none refers to a table that
    goes. The search index stays: it knows them by their ids.
    """
    columns = "id, conversation_id, position, role, text, token_ids, token_model, state, usage, created, depth, shown"
    db.execute("""
        CREATE TABLE turns_next (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'transcript', 'tool')),
            text TEXT NOT NULL,
            token_ids BLOB,
            token_model TEXT,
            state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'interrupted')),
            usage TEXT CHECK (usage IS NULL OR json_valid(usage)),
            created TEXT NOT NULL,
            parent INTEGER REFERENCES turns(id),
            depth INTEGER NOT NULL DEFAULT 0,
            shown INTEGER NOT NULL DEFAULT 1 CHECK (shown IN (0, 1)),
            copy_of INTEGER,
            CHECK ((token_ids IS NULL) = (token_model IS NULL)),
            UNIQUE (conversation_id, position)
        ) STRICT""")
    db.execute(f"INSERT INTO turns_next ({columns}, copy_of) SELECT {columns}, copy_of FROM turns")
    db.execute("CREATE TEMP TABLE parents AS SELECT id, parent FROM turns WHERE parent IS NOT NULL")
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'turns_next'")
    db.execute("INSERT INTO sqlite_sequence SELECT 'turns_next', seq FROM sqlite_sequence WHERE name = 'turns'")
    db.execute("DROP TABLE turns")
    db.execute("ALTER TABLE turns_next RENAME TO turns")
    db.execute("UPDATE turns SET parent = p.parent FROM temp.parents p WHERE p.id = turns.id")
    db.execute("DROP TABLE temp.parents")
    db.execute("CREATE INDEX turns_parent ON turns (parent, conversation_id)")
    db.execute("CREATE UNIQUE INDEX turns_path ON turns (conversation_id, depth) WHERE shown")
    _index_turns(db)
    db.execute("""
        CREATE TABLE programs (
            id TEXT PRIMARY KEY,
            conversation_id TEXT NOT NULL UNIQUE REFERENCES conversations(id) ON DELETE CASCADE,
            task TEXT NOT NULL,
            tools TEXT NOT NULL CHECK (json_valid(tools)),
            about TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(about)),
            state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'stopped', 'denied')),
            reason TEXT,
            created TEXT NOT NULL,
            updated TEXT NOT NULL
        ) STRICT""")
    db.execute("""
        CREATE TABLE calls (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            turn_id INTEGER NOT NULL REFERENCES turns(id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            tool TEXT NOT NULL,
            arguments TEXT NOT NULL CHECK (json_valid(arguments)),
            state TEXT NOT NULL CHECK (state IN ('asked', 'running', 'done', 'failed', 'denied')),
            result TEXT,
            seconds REAL,
            started TEXT,
            ended TEXT,
            CHECK ((result IS NULL) = (state IN ('asked', 'running'))),
            UNIQUE (turn_id, position)
        ) STRICT""")
    db.execute("""
        CREATE TABLE approvals (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            program_id TEXT REFERENCES programs(id) ON DELETE CASCADE,
            tool TEXT NOT NULL,
            record TEXT NOT NULL CHECK (json_valid(record)),
            created TEXT NOT NULL
        ) STRICT""")


@HISTORY()
def m006_links(db: Database) -> None:
    """Chained ids of turns whose clients bring all messages with every request, and what a reply keeps of its request.

    `said` is the text of a turn beside its calls; NULL: all of it.
    """
    db.execute("""
        CREATE TABLE links (
            turn_id INTEGER PRIMARY KEY REFERENCES turns(id) ON DELETE CASCADE,
            link TEXT NOT NULL,
            said TEXT
        ) STRICT""")
    db.execute("CREATE INDEX links_link ON links (link)")
    db.execute("""
        CREATE TABLE responses (
            turn_id INTEGER PRIMARY KEY REFERENCES turns(id) ON DELETE CASCADE,
            request TEXT NOT NULL CHECK (json_valid(request))
        ) STRICT""")


def _index_turns(db: Database) -> None:
    """Keep the full-text index as the turns are, but for those that are being written."""
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
