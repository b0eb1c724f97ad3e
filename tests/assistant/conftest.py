"""Fixtures for the tests of the history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.history import History


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """An empty one."""
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()
