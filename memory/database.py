"""How SQLite files are opened: private, WAL, never mapped, only by a SQLite that loses nothing, checked, migrated.

A migration that was released is never edited: a change is a new function at the end of its set.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from sqlite_utils import Database, Migrations
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # the module that sqlite-utils itself uses

from memory.errors import MemoryFailure

OLDEST_SQLITE = (3, 51, 3)
"""First release in which a write and a checkpoint at the wrong moment cannot lose committed pages of a WAL file."""

DatabaseError: type[Exception] = sqlite3.DatabaseError
IntegrityError: type[Exception] = sqlite3.IntegrityError

_PRAGMAS = (
    "journal_mode = WAL",
    "foreign_keys = ON",
    "busy_timeout = 5000",
    "mmap_size = 0",
    "secure_delete = ON",
    "trusted_schema = OFF",
)


_NUMBERS = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS}


class OldSqlite(MemoryFailure):
    """The SQLite library has a bug that can lose committed data."""


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite that can lose committed turns.

    Raises:
        OldSqlite: it is older than `OLDEST_SQLITE`.
    """
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, parts)) for parts in (version, OLDEST_SQLITE))
        raise OldSqlite(
            f"SQLite {have} can lose committed turns (WAL-reset bug); {need} or later is needed: pip install pysqlite3."
        )


def open_database(path: Path, migrations: Migrations, synchronous: Literal["FULL", "NORMAL"]) -> Database:
    """Open `path` (0600; its folder exists), check it, bring its schema up to date.

    FULL survives power loss; NORMAL may lose the last commits then, and is for what can be made anew.

    Raises:
        OldSqlite: see `check_sqlite`.
        DatabaseError: the file is damaged, no database, or from a newer version; it is left as it is.
    """
    check_sqlite()
    _create_private(path)
    connection = sqlite3.connect(str(path), timeout=5.0)
    try:
        return _prepared(connection, migrations, synchronous)
    except BaseException:
        connection.close()
        raise


def open_disposable(path: Path, migrations: Migrations, what: str) -> Database:
    """`open_database` for what can be made again: a damaged or foreign file is replaced by an empty one.

    Raises:
        OSError: not even an empty one can be made; `what` names it.
    """
    with as_os_error(what):
        try:
            return open_database(path, migrations, "NORMAL")
        except DatabaseError:
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            return open_database(path, migrations, "NORMAL")


@contextmanager
def as_os_error(what: str) -> Iterator[None]:
    """To a conversation, a failing database in the KV folder is a failing disk; `what` names it.

    Raises:
        OSError: SQLite failed inside of it.
    """
    try:
        yield
    except DatabaseError as error:
        name = str(getattr(error, "sqlite_errorname", ""))
        number = next((number for begin, number in _NUMBERS.items() if name.startswith(begin)), errno.EIO)
        raise OSError(number, f"{what} of the KV folder cannot be used: {error}") from error


@contextmanager
def committed(db: Database, what: str) -> Iterator[None]:
    """One transaction that has the write lock from its beginning, undone when anything goes wrong.

    Raises:
        OSError: SQLite failed; `what` names the database.
    """
    with as_os_error(what):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.commit()
        except BaseException:
            with suppress(DatabaseError):
                db.rollback()
            raise


def open_read_only(path: Path) -> Database:
    """Open `path` to be read, also while another process writes it.

    Raises:
        DatabaseError: it is not there, damaged or no database.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
        return Database(connection)
    except BaseException:
        connection.close()
        raise


def quick_check(path: Path) -> str:
    """ "ok", or what is wrong with the database at `path`, also that it cannot be opened; it is not changed."""
    try:
        with closing(open_read_only(path)) as db:
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except DatabaseError as error:
        return str(error)


def rewrite(db: Database) -> None:
    """Write the file anew when rows were deleted, so that none of their bytes is left in it.

    Deleting with secure_delete is not enough: pages that were rebalanced keep copies of rows outside of their cells.
    """
    for statement in ("PRAGMA temp_store = MEMORY", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        db.execute(statement).fetchall()


def _prepared(connection: Any, migrations: Migrations, synchronous: str) -> Database:
    for pragma in (*_PRAGMAS, f"synchronous = {synchronous}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    db = Database(connection)
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"the file is damaged ({found})")
    if unknown := {migration.name for migration in migrations.applied(db)} - _names(migrations):
        raise sqlite3.DatabaseError(f"a newer version of the assistant wrote it ({', '.join(sorted(unknown))})")
    migrations.apply(db)
    return db


def _names(migrations: Migrations) -> set[str]:
    """Names of every migration that this version knows: all are pending for a new database."""
    empty = Database(memory=True)
    try:
        return {migration.name for migration in migrations.pending(empty)}
    finally:
        empty.close()


def _create_private(path: Path) -> None:
    """Make the file 0600 before SQLite opens it: -wal and -shm take their mode from it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
