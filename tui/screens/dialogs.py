"""Small questions over the screen: one line of text, or yes and no."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Input, Static

from tui.screens.modal import Modal
from tui.widgets.line import Line


class AskLine(Modal[str | None]):
    """Asks for one line of text; Esc gives None."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, question: str, value: str, limit: int) -> None:
        super().__init__()
        self._question = question
        self._value = value
        self._limit = limit

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Static(self._question, classes="heading", markup=False)
            yield Line(self._value, longest=self._limit)
            yield Static("enter accepts · esc cancels", classes="keys", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip() or None)


class AskYes(Modal[bool | None]):
    """Asks whether to do something: y does it, Esc does not."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [Binding("y", "dismiss(True)", "Yes"), Binding("escape,n", "dismiss(False)", "No")]

    def __init__(self, heading: str, why: str, deed: str) -> None:
        """`deed`: what `y` does, as in "restarts it"."""
        super().__init__()
        self._heading = heading
        self._why = why
        self._deed = deed

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Static(self._heading, classes="heading", markup=False)
            yield Static(self._why, classes="body", markup=False)
            yield Static(f"y {self._deed} · esc leaves it", classes="keys", markup=False)
