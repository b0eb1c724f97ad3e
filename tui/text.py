"""Text that others wrote, made safe to draw: no terminal escapes, no control or direction-override characters.

Nothing in `tui` passes such text through a markup parser; this file is about the characters themselves.
"""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size

from assistant.controls import without_controls
from assistant.errors import AssistantError

_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\x9c]*\x1b?|[ -/]*)|\x9b[0-?]*[ -/]*)\Z")
_OVERRIDE = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff]")
_LONGEST_ESCAPE = 256
_LOOK = 20
"""So many characters a cell are looked at, of a text that may have millions of them."""


def clean(text: str) -> str:
    """The text without escape sequences and control characters; line ends become newlines, tabs stay."""
    return _OVERRIDE.sub("", without_controls(text.replace("\r\n", "\n").replace("\r", "\n")))


def removed(text: str) -> int:
    """How many characters `clean` takes away (line ends aside)."""
    return len(text.replace("\r\n", "\n")) - len(clean(text))


def shorten(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and how many were left off."""
    return (text, 0) if len(text) <= limit else (text[:limit], len(text) - limit)


def one_line(text: str, limit: int) -> str:
    """The text on one line that is at most `limit` cells wide, with an ellipsis when cut."""
    head = text.lstrip()[: _LOOK * (limit + 1)]
    flat = " ".join(clean(head).split())
    whole = cell_len(flat) <= limit and len(head) >= len(text.strip())
    return flat if whole else set_cell_size(flat, max(limit - 1, 0)).rstrip() + "…"


def sentence_of(error: BaseException) -> str:
    """What to tell of an error: ours are sentences, anything else is a fault of the program and named as one."""
    known = isinstance(error, AssistantError)
    return str(error) if known else f"Internal error, {type(error).__name__}: {error}"


class Cleaner:
    """`clean` for a stream: a sequence that is cut by the end of a piece is held back until it is whole."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The part of everything fed so far that is now safe to draw."""
        text, self._held = self._held + piece, ""
        if (cut := _UNFINISHED.search(text)) and len(cut[0]) <= _LONGEST_ESCAPE:
            text, self._held = text[: cut.start()], cut[0]
        elif text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        return clean(text)
