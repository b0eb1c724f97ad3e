"""A line to type in above a list that the arrows move in meanwhile."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual import on
from textual.binding import Binding
from textual.widgets import Input, OptionList

from tui.screens.modal import Modal

T = TypeVar("T")


class Listed(Modal[T]):
    """Enter in the line takes the row at hand, a click the one under it: `take` says what that gives."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down,ctrl+n", "move(1)", "Next", priority=True),
        Binding("up,ctrl+p", "move(-1)", "Before", priority=True),
        Binding("pagedown", "page(1)", "A page on", priority=True),
        Binding("pageup", "page(-1)", "A page back", priority=True),
    ]
    PAGE: ClassVar[int] = 10

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()

    def take(self, at: int) -> None:
        """Leave with row `at`."""
        raise NotImplementedError

    def action_move(self, steps: int) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            options.highlighted = min(max(options.highlighted + steps, 0), options.option_count - 1)

    def action_page(self, pages: int) -> None:
        self.action_move(pages * self.PAGE)

    @on(Input.Submitted)
    def _entered(self) -> None:
        if (at := self.query_one(OptionList).highlighted) is not None:
            self.take(at)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.take(event.option_index)
