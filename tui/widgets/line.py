"""One line of text in a dialog."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from tui.text import clean

LONGEST = 300
"""Characters; every one that is typed measures all of them."""
_LOOK = 4096
"""Of a paste, so much may be its first line."""


class Line(Input):
    """An input that takes of what is pasted the first line, as far as there is room."""

    def __init__(
        self,
        value: str = "",
        placeholder: str = "",
        longest: int = LONGEST,
        *,
        id: str | None = None,  # noqa: A002 - as Textual calls it
        select_on_focus: bool = True,
    ) -> None:
        """`longest`: characters."""
        super().__init__(value[:longest], placeholder, max_length=longest, id=id, select_on_focus=select_on_focus)
        self._longest = longest

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        first = clean(event.text[:_LOOK]).strip().partition("\n")[0]
        room = self._longest - len(self.value) + len(self.selected_text)
        if taken := first[:room]:
            self.replace(taken, *self.selection)
