"""docs/features.md says what is there: every link leads to a test, and no row that claims something is without one."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "features.md"
_LINK = re.compile(r"\]\(([^)#]+)(?:#([^)]+))?\)")
_ROW = re.compile(r"^\| (?P<feature>[^|]+) \| (?P<here>[Yp-]) \| (?P<what>[^|]+) \|$", re.M)
ROWS = 37
"""Features of terminal programs that were compared."""


def test_every_row_says_what_is_here() -> None:
    rows = list(_ROW.finditer(PAGE.read_text(encoding="utf-8")))
    assert len(rows) == ROWS
    for row in rows:
        assert (row["here"] != "-") == bool(_LINK.search(row["what"])), row["feature"]


def test_every_link_leads_to_a_test() -> None:
    for path, name in _LINK.findall(PAGE.read_text(encoding="utf-8")):
        source = (PAGE.parent / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name or 'test_'}", source, re.M), f"{path}#{name}"
