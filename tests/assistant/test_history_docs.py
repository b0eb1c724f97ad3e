"""docs/history.md: its queries run as they stand, and it names every table, column and figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assistant.daemon.titles import FEWEST, GROWTH
from assistant.history import History
from assistant.history.keeping import KEPT
from memory.database import open_read_only

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "history.db"
    history = History(path)
    first = history.begin("demo", "hello")
    history.begin("demo", "hello again", replaces=first.turn_id)
    history.begin(history.fork("demo"), "its own way")
    history.close()
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
    for table in ("conversations", "turns", "turns_fts"):
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{table}` |")]
        for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", [table]).fetchall():
            assert f"`{column}`" in line, (table, column)
    db.close()


def test_the_page_states_the_figures_that_the_program_uses() -> None:
    for figure in (f"for {KEPT.days} days", f"When {FEWEST} turns", f"{GROWTH} times as many"):
        assert figure in PAGE
