"""The list over the prompt: what can be completed, moved in with the arrows while the prompt keeps the cursor."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.completion import Choice, Offer
from tui.text import one_line

_WIDTH = 28
Take = Callable[[Offer, Choice, bool], None]


class Choices(OptionList, can_focus=False):
    """Shown while there is an offer."""

    DEFAULT_CSS = """
    Choices {
        height: auto; max-height: 8; margin: 0 1; padding: 0 1; border: none; background: $surface; display: none;
        scrollbar-size-vertical: 1;
    }
    """

    def __init__(self, take: Take) -> None:
        """`take` is told what was chosen, and whether it was taken with Enter and may be sent at once."""
        super().__init__(id="choices", markup=False)
        self._take_it = take
        self._offer: Offer | None = None

    def show(self, offer: Offer | None) -> None:
        """Show what is offered; None or nothing hides the list."""
        self._offer = offer if offer is not None and offer.choices else None
        self.display = self._offer is not None
        if self._offer is not None:
            self.clear_options()
            self.add_options([Option(_row(choice)) for choice in self._offer.choices])
            self.highlighted = 0

    def take(self, key: str) -> bool:
        """Use a key that was pressed in the prompt; whether it was for the list."""
        if self._offer is None:
            return False
        match key:
            case "up":
                self.action_cursor_up()
            case "down":
                self.action_cursor_down()
            case "escape":
                self.show(None)
            case "tab":
                self._take(send=False)
            case "enter" if self._chosen is not None and self._chosen.text != self._offer.typed:
                self._take(send=self._offer.whole)
            case _:
                return False
        return True

    @property
    def _chosen(self) -> Choice | None:
        if self._offer is None or self.highlighted is None:
            return None
        return self._offer.choices[self.highlighted]

    def _take(self, *, send: bool) -> None:
        offer, choice = self._offer, self._chosen
        self.show(None)
        if offer is not None and choice is not None:
            self._take_it(offer, choice, send and not choice.more)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.highlighted = event.option_index
        self._take(send=False)


def _row(choice: Choice) -> Content:
    return Content.assemble(f"{one_line(choice.text, 60):<{_WIDTH}} ", (one_line(choice.words, 120), "dim"))
