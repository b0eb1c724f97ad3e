"""The three quiet lines around the transcript: title above, activity and figures below.

Each draws itself as one line and never asks for a new layout, so that it may change many times a second.
"""

from __future__ import annotations

import time

from rich.cells import cell_len
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui.figures import bar, plural
from tui.lines import activity, figures, progress
from tui.state import View
from tui.text import one_line

_NOTICE_S = 6.0
_BAR = 12
_GAP = 2
_BAR_FROM = 60
"""Narrower terminals get words only."""


class Title(Widget):
    """One line: the conversation's name, and what it is about."""

    def __init__(self) -> None:
        super().__init__(id="title")
        self._text = Content("assistant")

    def show(self, name: str, about: str) -> None:
        more = [("  ", ""), (about, "dim")] if about and about != name else []
        self._text = Content.assemble((name, "bold $primary"), *more)
        self.refresh()

    def render(self) -> Content:
        return self._text


class Activity(Widget):
    """What is going on, or for a few seconds a notice; on the right what the keys do."""

    view: reactive[View] = reactive(View(), init=False)

    class Pressed(Message):
        """The pill that says what is below was clicked."""

    def __init__(self, hint: str, end: str) -> None:
        """`hint`: the keys a newcomer needs; `end`: the key that goes to the end."""
        super().__init__(id="activity")
        self._end = end
        self._pill = False
        self._keys = self._hint = hint
        self._notice = ""
        self._until = 0.0

    def on_mount(self) -> None:
        self.set_interval(0.5, self.refresh)

    def notice(self, text: str) -> None:
        """Show a sentence in place of the activity for some seconds."""
        self._notice, self._until = one_line(text, 200), time.monotonic() + _NOTICE_S
        self.refresh()

    def follow(self, following: bool, below: int = 0) -> None:
        """Say on the right that there is more text below, and how much of it is new, while the end is not in sight."""
        more = f" {plural(below, 'new line')} · {self._end} " if below else f" more below · {self._end} "
        self._hint, self._pill = (self._keys, False) if following else (more, True)
        self.refresh()

    def on_click(self) -> None:
        if self._pill:
            self.post_message(self.Pressed())

    def render(self) -> Content:
        now = time.monotonic()
        words = Content.styled(self._notice, "$warning") if now < self._until else self._words(now)
        gap = self.content_size.width - words.cell_length - cell_len(self._hint)
        if gap < _GAP:
            return words
        return Content.assemble(words, " " * gap, (self._hint, "$background on $accent" if self._pill else ""))

    def _words(self, now: float) -> Content:
        words = activity(self.view, now)
        part = progress(self.view)
        style = "$accent" if self.view.busy else ""
        if part is None or self.size.width < _BAR_FROM:
            return Content.styled(words, style)
        full, empty = bar(part, _BAR)
        return Content.assemble((full, "$accent"), (empty, "$foreground 20%"), ("  ", ""), (words, style))


class Figures(Widget):
    """Model · budget bar · tokens · TTFT · tok/s, in as many words as the width allows."""

    view: reactive[View] = reactive(View(), init=False)

    def __init__(self) -> None:
        super().__init__(id="figures")

    def render(self) -> Content:
        return Content.assemble(*figures(self.view, max(self.content_size.width, 1)))
