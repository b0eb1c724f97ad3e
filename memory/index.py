"""index.db: which branch holds which chunk. Disposable: whatever it says is in the chunk files too.

Recency is a sequence number, never a wall time, so that a clock that jumps changes nothing. Whatever SQLite has to
complain of is an OSError here: to the conversation, a failing index is a failing disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database, Migrations

from memory.database import as_os_error, committed, open_disposable, open_read_only, rewrite

INDEX = Migrations("kv-index")
_WHAT = "the index"
_COLUMNS = "branch, conversation, fingerprint, parent, parent_rows, first_row, rows, bytes, used"


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One branch: rows `first_row` to `rows` lie in its own file (`bytes` long), those before in its parent's."""

    branch: str
    conversation: str
    fingerprint: bytes
    parent: str | None
    parent_rows: int
    first_row: int
    rows: int
    bytes: int
    used: int


class Index:
    """One open index.db. Belongs to the thread that opened it."""

    def __init__(self, path: Path) -> None:
        """Open `path`; a damaged or foreign one is replaced by an empty one.

        `fresh`: it lists nothing, so what there is has to be learnt from the files.

        Raises:
            OSError: not even an empty one can be made.
        """
        self.path = path
        self._db = open_disposable(path, INDEX, _WHAT)
        self.fresh = not self._read("SELECT 1 FROM branches LIMIT 1")

    def close(self) -> None:
        """Close the file; the WAL is folded into it."""
        with as_os_error(_WHAT):
            self._db.close()

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, row: BranchRow, fields: dict[str, str], chains: Sequence[bytes]) -> None:
        """Record a branch and the chained ids of its own rows, in place of what was recorded of it."""
        with committed(self._db, _WHAT):
            self._remove(row.branch)
            values = [row.branch, row.conversation, row.fingerprint, row.parent, row.parent_rows, row.first_row]
            self._db.execute(
                "INSERT INTO branches (branch, conversation, fingerprint, parent, parent_rows, first_row, rows, bytes, "
                "used, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [*values, row.rows, row.bytes, row.used or self._next(), json.dumps(fields)],
            )
            self._add_chunks(row.branch, row.first_row, chains)

    def add_row(self, branch: str, number: int, chain: bytes, size: int) -> None:
        """Record row `number` as the last one of `branch`, whose file is `size` bytes long now."""
        with committed(self._db, _WHAT):
            self._db.execute("DELETE FROM chunks WHERE branch = ? AND number >= ?", [branch, number])
            self._add_chunks(branch, number, [chain])
            self._db.execute(
                "UPDATE branches SET rows = ?, bytes = ?, used = ? WHERE branch = ?",
                [number + 1, size, self._next(), branch],
            )

    def touch(self, branch: str) -> None:
        """This branch was used just now."""
        with committed(self._db, _WHAT):
            self._db.execute("UPDATE branches SET used = ? WHERE branch = ?", [self._next(), branch])

    def cut(self, branch: str, rows: int, size: int) -> None:
        """Only the first `rows` rows are left, its parents' too, its own in a file of `size` bytes."""
        with committed(self._db, _WHAT):
            self._db.execute("DELETE FROM chunks WHERE branch = ? AND number >= ?", [branch, rows])
            self._db.execute("UPDATE branches SET rows = ?, bytes = ? WHERE branch = ?", [rows, size, branch])

    def give(self, branch: str, conversation: str, rows: int, size: int) -> None:
        """This branch, of which `rows` rows are left (as in `cut`), belongs to `conversation` now."""
        with committed(self._db, _WHAT):
            self._db.execute("DELETE FROM chunks WHERE branch = ? AND number >= ?", [branch, rows])
            self._db.execute(
                "UPDATE branches SET conversation = ?, rows = ?, bytes = ? WHERE branch = ?",
                [conversation, rows, size, branch],
            )

    def remove(self, branch: str) -> None:
        """Record nothing of this branch any more."""
        with committed(self._db, _WHAT):
            self._remove(branch)

    def forget(self, conversation: str) -> None:
        """Remove a conversation, and the bytes it lay in."""
        with committed(self._db, _WHAT):
            self._db.execute(
                "DELETE FROM chunks WHERE branch IN (SELECT branch FROM branches WHERE conversation = ?)",
                [conversation],
            )
            self._db.execute("DELETE FROM branches WHERE conversation = ?", [conversation])
        with as_os_error(_WHAT):
            rewrite(self._db)

    # --- reading -----------------------------------------------------------------------------------------------------

    def branches(self, conversation: str | None = None) -> list[BranchRow]:
        """Branches (of one conversation), the one used longest ago first."""
        return [BranchRow(*row) for row in self._read(*_listing(conversation))]

    def branch(self, name: str) -> BranchRow | None:
        """One branch."""
        rows = self._read(f"SELECT {_COLUMNS} FROM branches WHERE branch = ?", [name])
        return BranchRow(*rows[0]) if rows else None

    def fields(self, branch: str) -> dict[str, str]:
        """The fingerprint's fields of a branch."""
        rows = self._read("SELECT fields FROM branches WHERE branch = ?", [branch])
        return dict(json.loads(rows[0][0])) if rows else {}

    def matching(self, conversation: str, fingerprint: bytes, chains: Iterable[bytes]) -> list[tuple[str, int]]:
        """(branch, rows that match) of every branch of the conversation with this fingerprint, the best one first.

        Of a branch without a matching row of its own, those that it builds on may match.
        """
        wanted = json.dumps([chain.hex() for chain in chains])
        rows = self._read(
            """SELECT b.branch, coalesce(max(c.number) + 1, b.parent_rows) AS matched
               FROM branches b LEFT JOIN chunks c ON c.branch = b.branch
                   AND c.chain IN (SELECT value FROM json_each(:wanted))
               WHERE b.conversation = :conversation AND b.fingerprint = :fingerprint
               GROUP BY b.branch ORDER BY matched DESC, b.used DESC""",
            {"wanted": wanted, "conversation": conversation, "fingerprint": fingerprint},
        )
        return [(str(row[0]), int(row[1])) for row in rows]

    def holding(self, fingerprint: bytes, chains: Iterable[bytes], most: int) -> list[tuple[str, int]]:
        """(branch, rows that match) of branches of any conversation with a matching row of their own; the best ones."""
        wanted = json.dumps([chain.hex() for chain in chains])
        rows = self._read(
            """SELECT b.branch, max(c.number) + 1 AS matched
               FROM json_each(:wanted) w JOIN chunks c ON c.chain = w.value JOIN branches b ON b.branch = c.branch
               WHERE b.fingerprint = :fingerprint
               GROUP BY b.branch ORDER BY matched DESC, b.used DESC LIMIT :most""",
            {"wanted": wanted, "fingerprint": fingerprint, "most": most},
        )
        return [(str(row[0]), int(row[1])) for row in rows]

    def spare(self) -> list[tuple[BranchRow, int]]:
        """Branches with rows that no other one builds on, and how many of all their rows others do build on.

        The one used longest ago first; a branch counts as used when one of its conversation that builds on it was, and
        comes after that one.
        """
        rows = self._read(
            f"""WITH children AS (SELECT parent, conversation, max(parent_rows) AS needed, max(used) AS latest
                                  FROM branches WHERE parent IS NOT NULL GROUP BY parent, conversation)
                SELECT {_COLUMNS}, (SELECT max(needed) FROM children c WHERE c.parent = b.branch) AS needed
                FROM branches b WHERE needed IS NULL OR rows > needed
                ORDER BY max(used, coalesce((SELECT latest FROM children c WHERE c.parent = b.branch
                                             AND c.conversation = b.conversation), 0)), needed IS NOT NULL"""
        )
        return [(BranchRow(*row[:-1]), int(row[-1] or 0)) for row in rows]

    def children(self, branch: str) -> list[BranchRow]:
        """Branches whose parent this is."""
        rows = self._read(f"SELECT {_COLUMNS} FROM branches WHERE parent = ?", [branch])
        return [BranchRow(*row) for row in rows]

    def total_bytes(self) -> int:
        """Bytes of all chunk files, as recorded."""
        return int(self._read("SELECT coalesce(sum(bytes), 0) FROM branches")[0][0])

    def chains(self) -> dict[str, list[str]]:
        """The chained ids (hex) of all rows, by branch, in order."""
        found = dict[str, list[str]]()
        for branch, chain in self._read("SELECT branch, chain FROM chunks ORDER BY branch, number"):
            found.setdefault(str(branch), []).append(str(chain))
        return found

    # --- parts -------------------------------------------------------------------------------------------------------

    def _read(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        with as_os_error(_WHAT):
            return self._db.execute(sql, values).fetchall()

    def _next(self) -> int:
        """The next sequence number."""
        return int(self._db.execute("UPDATE clock SET now = now + 1 RETURNING now").fetchone()[0])

    def _remove(self, branch: str) -> None:
        self._db.execute("DELETE FROM chunks WHERE branch = ?", [branch])
        self._db.execute("DELETE FROM branches WHERE branch = ?", [branch])

    def _add_chunks(self, branch: str, first: int, chains: Sequence[bytes]) -> None:
        rows = [(branch, first + index, chain.hex()) for index, chain in enumerate(chains)]
        self._db.conn.executemany("INSERT INTO chunks (branch, number, chain) VALUES (?, ?, ?)", rows)


def look(path: Path, conversation: str | None = None) -> list[BranchRow]:
    """`Index.branches` of the index at `path`, which another process may be writing.

    Raises:
        DatabaseError: it is not there, damaged or no index.
    """
    with closing(open_read_only(path)) as db:
        return [BranchRow(*row) for row in db.execute(*_listing(conversation)).fetchall()]


def _listing(conversation: str | None) -> tuple[str, list[str]]:
    where = "" if conversation is None else "WHERE conversation = ?"
    return f"SELECT {_COLUMNS} FROM branches {where} ORDER BY used", [] if conversation is None else [conversation]


@INDEX()
def i001_branches_and_chunks(db: Database) -> None:
    """Branches, the chained ids of their rows, and the sequence that says what was used last."""
    db.execute("""
        CREATE TABLE branches (
            branch TEXT PRIMARY KEY,
            conversation TEXT NOT NULL,
            fingerprint BLOB NOT NULL,
            fields TEXT NOT NULL CHECK (json_valid(fields)),
            parent TEXT,
            parent_rows INTEGER NOT NULL,
            first_row INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            used INTEGER NOT NULL
        ) STRICT""")
    db.execute("CREATE INDEX branches_conversation ON branches (conversation)")
    db.execute("CREATE INDEX branches_parent ON branches (parent)")
    db.execute("""
        CREATE TABLE chunks (
            branch TEXT NOT NULL,
            number INTEGER NOT NULL,
            chain TEXT NOT NULL,
            PRIMARY KEY (branch, number)
        ) STRICT, WITHOUT ROWID""")
    db.execute("CREATE INDEX chunks_chain ON chunks (chain)")
    db.execute("CREATE TABLE clock (now INTEGER NOT NULL) STRICT")
    db.execute("INSERT INTO clock (now) VALUES (0)")
