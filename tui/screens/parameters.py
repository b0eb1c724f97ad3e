"""Decoding parameters of the next replies: a field for each; an empty one means as the settings say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Label, Static

from assistant.errors import UsageError
from tui.screens.modal import Modal
from tui.widgets.line import Line

if TYPE_CHECKING:
    from tui.session import Session

PARAMETERS = {
    "temperature": "0: always the likeliest; up to 2",
    "top_p": "likeliest tokens of this mass",
    "top_k": "this many tokens; 0: no limit",
    "min_p": "least share of the likeliest one",
    "repetition_penalty": "above 1: less repetition",
    "seed": "the same seed, the same reply",
    "max_tokens": "longest reply, in tokens",
}


class Parameters(Modal[dict[str, str] | None]):
    """Gives what was written into the fields, checked; None when nothing is to change."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down", "app.focus_next", "Next", priority=True),
        Binding("up", "app.focus_previous", "Before", priority=True),
    ]

    def __init__(self, session: Session, values: Mapping[str, str]) -> None:
        super().__init__()
        self._session = session
        self._values = values

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet -wide"):
            yield Static("Parameters of the next replies", classes="heading", markup=False)
            for name, words in PARAMETERS.items():
                with Horizontal(classes="field"):
                    yield Label(name, markup=False)
                    yield Line(self._values.get(name, ""), "as in settings", 24, id=name)
                    yield Label(words, classes="words", markup=False)
            yield Static("", classes="error -hidden", markup=False)
            yield Static("enter accepts · ↑ ↓ move · esc cancels", classes="keys", markup=False)

    @on(Input.Submitted)
    def _accept(self) -> None:
        values = {name: said for name in PARAMETERS if (said := self.query_one(f"#{name}", Input).value.strip())}
        try:
            self._session.checked_sampling(values)
        except UsageError as error:
            line = self.query_one(".error", Static)
            line.update(str(error))
            line.remove_class("-hidden")
            return
        self.dismiss(values)
