"""A longer text in a box, for example a system prompt."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from tui.screens.modal import Modal


class AskText(Modal[str | None]):
    """Gives the text, which may be empty; Esc gives None."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel", priority=True),
        Binding("ctrl+s", "accept", "Accept", priority=True),
    ]

    def __init__(self, heading: str, text: str) -> None:
        super().__init__()
        self._heading = heading
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet -wide"):
            yield Static(self._heading, classes="heading", markup=False)
            yield TextArea(self._text, compact=True)
            yield Static("^s accepts · esc cancels", classes="keys", markup=False)

    def action_accept(self) -> None:
        self.dismiss(self.query_one(TextArea).text.strip())
