"""The queries of docs/episodes.md run as they stand, on a database in which each has an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.cluster import DRIFT, FIRST, MOST, NEW_SEGMENT
from memory.database import open_read_only
from memory.encoder import Encoder
from memory.episode import Episodes
from memory.episode_view import NEW_QUESTION
from tests.memory.talk import turns

PAGE = (Path(__file__).parents[2] / "docs" / "episodes.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("kv") / "episodes.db"
    episodes = Episodes(path, Encoder.load())
    episodes.observe("c", turns(["dogs", "money", "space", "bread"] * 3)).result()
    episodes.route("c", 100, "Where did my dog chase the ball?")
    span = {"first": 64, "last": 128, "tokens": 7, "mass": 0.1}
    episodes.note_recalled("c", 100, json.dumps({"spans": [span], "missed": 0.0, "exact_steps": 0, "steps": 9}))
    episodes.close()
    return path


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.split("\n")[0][:40])
def test_a_query_of_the_page_has_an_answer(file: Path, query: str) -> None:
    db = open_read_only(file)
    rows = db.execute(query).fetchall()
    db.close()
    assert rows
    assert any(isinstance(value, str) and value for row in rows for value in row)


def test_the_page_names_every_table_and_column(file: Path) -> None:
    db = open_read_only(file)
    tables = {str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for table in tables - {"_sqlite_migrations", "sqlite_stat1"}:
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{table}` |")]
        columns = {str(row[0]) for row in db.execute("SELECT name FROM pragma_table_info(?)", [table])}
        for column in columns - {"conversation", "segment", "episode"}:
            assert f"`{column}`" in line, (table, column)
    db.close()


def test_the_page_states_the_figures_that_the_program_uses() -> None:
    for figure in (f"a cosine of {NEW_SEGMENT}", f"below {NEW_QUESTION}", f"at {FIRST} segments", f"fell by {DRIFT}"):
        assert figure in PAGE
    assert f"{MOST} at most" in PAGE
