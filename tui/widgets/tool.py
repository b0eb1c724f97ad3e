"""A turn that a tool wrote."""

from __future__ import annotations

from textual.app import ComposeResult

from tui.text import clean
from tui.widgets.fold import Fold
from tui.widgets.selectable import Selectable


class ToolTurn(Selectable):
    """What a tool gave back to the model: one line, until someone wants to read it."""

    DEFAULT_CSS = """
    ToolTurn {
        height: auto; padding: 0 1; border-left: outer $panel; color: $text-muted;
        Fold { margin-top: 0; .thought { text-style: none; } }
        &:focus { border-left: outer $accent; background: $panel; }
        &.-covered { display: none; }
    }
    """

    def __init__(self, text: str, *, turn_id: int | None = None) -> None:
        super().__init__(classes="turn -tool")
        self.text = text
        self.turn_id = turn_id
        self._fold = Fold(shown=False, of="tool result")

    def compose(self) -> ComposeResult:
        yield self._fold

    def on_mount(self) -> None:
        self._fold.say(clean(self.text), thinking=False)

    @property
    def said(self) -> str:
        return self.text

    def action_unfold(self) -> None:
        self._fold.open(not self._fold.shown)
