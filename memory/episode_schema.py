"""The tables of episodes.db (docs/episodes.md). A migration that was released is never edited."""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database, Migrations

from memory.database import open_disposable
from memory.episode_reader import WHAT

EPISODES_FILE = "episodes.db"
EPISODES_DB = Migrations("episodes")

_TABLES = """
CREATE TABLE turns (
    conversation TEXT NOT NULL,
    position INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    speaker TEXT NOT NULL,
    date TEXT,
    text TEXT NOT NULL,
    digest TEXT NOT NULL,
    first_token INTEGER NOT NULL,
    last_token INTEGER NOT NULL,
    PRIMARY KEY (conversation, position)
) STRICT;
CREATE TABLE segments (
    conversation TEXT NOT NULL,
    segment INTEGER NOT NULL,
    first_turn INTEGER NOT NULL,
    last_turn INTEGER NOT NULL,
    first_token INTEGER NOT NULL,
    last_token INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (conversation, segment)
) STRICT;
CREATE TABLE embeddings (
    conversation TEXT NOT NULL,
    segment INTEGER NOT NULL,
    encoder TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (conversation, segment)
) STRICT;
CREATE TABLE episodes (
    conversation TEXT NOT NULL,
    episode INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('current', 'retired')),
    title TEXT NOT NULL,
    segments INTEGER NOT NULL,
    medoid INTEGER,
    cohesion REAL,
    centroid BLOB,
    PRIMARY KEY (conversation, episode)
) STRICT;
CREATE TABLE memberships (
    conversation TEXT NOT NULL,
    segment INTEGER NOT NULL,
    episode INTEGER NOT NULL,
    similarity REAL NOT NULL,
    PRIMARY KEY (conversation, segment)
) STRICT;
CREATE TABLE patches (
    conversation TEXT NOT NULL,
    episode INTEGER NOT NULL,
    segments TEXT NOT NULL CHECK (json_valid(segments)),
    text TEXT NOT NULL,
    PRIMARY KEY (conversation, episode)
) STRICT;
CREATE TABLE clusterings (
    conversation TEXT NOT NULL,
    segments INTEGER NOT NULL,
    episodes INTEGER NOT NULL,
    cohesion REAL NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('first', 'doubled', 'drifted')),
    PRIMARY KEY (conversation, segments)
) STRICT;
CREATE TABLE routes (
    conversation TEXT NOT NULL,
    number INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    asked TEXT NOT NULL,
    episode INTEGER,
    similarity REAL,
    runner_up INTEGER,
    runner_up_similarity REAL,
    switched INTEGER NOT NULL CHECK (switched IN (0, 1)),
    new INTEGER NOT NULL CHECK (new IN (0, 1)),
    recalled TEXT CHECK (json_valid(recalled)),
    PRIMARY KEY (conversation, number)
) STRICT;
CREATE INDEX turns_turn ON turns (conversation, turn);
CREATE INDEX routes_turn ON routes (conversation, turn);
"""


@EPISODES_DB()
def e001_episodes(db: Database) -> None:
    """Turns in segments, segments in episodes, and how each question was routed."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)


@EPISODES_DB()
def e002_nearest_segments(db: Database) -> None:
    """The segments that a question is nearest to, whatever their episode."""
    db.execute("ALTER TABLE routes ADD COLUMN nearest TEXT CHECK (json_valid(nearest))")


def open_episodes(path: Path | None) -> Database:
    """Open `path` (None: in memory only); a damaged or foreign file is replaced by an empty one.

    Raises:
        OSError: not even an empty one can be made.
    """
    if path is None:
        db = Database(memory=True)
        EPISODES_DB.apply(db)
        return db
    return open_disposable(path, EPISODES_DB, WHAT)
