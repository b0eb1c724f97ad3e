"""Which question the why screen is about, and how a passage is drawn. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.protocol import Turn
from assistant.views.reason import Passage
from tui.panels.lines import LABEL, QUIET, Line

_STYLES = {"question": "bold", "fact": "", "heading": LABEL, "quote": QUIET}


def asked(turns: Sequence[Turn]) -> list[Turn]:
    """The questions among the turns."""
    return [turn for turn in turns if turn.role == "user"]


def place(turns: Sequence[Turn], questions: Sequence[Turn], turn: int | None) -> int:
    """Which question to begin at: that of `turn` (which may be a reply), or the last one, also when it is gone."""
    if turn is None or all(one.id != turn for one in turns):
        return max(0, len(questions) - 1)
    before = 0
    for one in turns:
        before += one.role == "user"
        if one.id == turn:
            break
    return max(0, before - 1)


def passage_line(passage: Passage) -> list[Line]:
    """A passage as lines: a heading has room above it, a quote stands in from the edge."""
    text = f"  {passage.text}" if passage.kind == "quote" else passage.text
    line: Line = [(text, _STYLES[passage.kind])]
    return [[], line] if passage.kind == "heading" else [line]
