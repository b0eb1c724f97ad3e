"""Why this memory: what a reply was given and what it fetched, in words; Enter on a quote gives the turn to go to."""

from __future__ import annotations

from collections.abc import Iterator

from textual.binding import Binding
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from assistant.protocol import Episodes, Turn
from assistant.views.reason import Passage, told
from tui.panels.why import asked, passage_line, place
from tui.screens.panel import Panel, drawn
from tui.session import Session


class WhyScreen(Panel[int | None]):
    """Begins at the last answer, or at the one whose turn (question or reply) is given."""

    CSS_PATH = ["../panel.tcss", "why.tcss"]
    BINDINGS = [
        Binding("f4,q", "leave", "Back"),
        Binding("left,p", "step(-1)", "The question before", key_display="←"),
        Binding("right,n", "step(1)", "The next question", key_display="→"),
    ]
    HEADING = "Why"
    KEYS = "← → questions · ↑ ↓ quotes · enter to the turn · esc back"

    def __init__(self, session: Session, name: str | None, turn: int | None = None) -> None:
        super().__init__(session, name)
        self._turn = turn
        self._questions: list[Turn] = []
        self._found = Episodes()
        self._at = 0

    def inside(self) -> Iterator[Widget]:
        yield OptionList(markup=False)

    async def fetch(self) -> None:
        name = self.conversation
        turns = await self.session.every_turn(name) if name else []
        self._questions = asked(turns)
        if name is not None and self._questions:
            self._found = await self.session.episodes(name)
        self._at = place(turns, self._questions, self._turn)
        self._show()

    def _show(self) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        if not self._questions:
            self.title_of("Why · nothing was asked here yet")
            return
        self.title_of(f"Why · question {self._at + 1} of {len(self._questions)} in {self.conversation}")
        passages = list(told(self._questions[self._at], self._found))
        options.add_options([_option(number, passage) for number, passage in enumerate(passages)])
        self._passages = passages
        options.focus()
        first = next((at for at, passage in enumerate(passages) if passage.kind == "quote"), None)
        options.highlighted = first
        options.scroll_home(animate=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._passages[event.option_index].turn)

    def action_step(self, by: int) -> None:
        if 0 <= self._at + by < len(self._questions):
            self._at += by
            self._show()

    def action_leave(self) -> None:
        self.dismiss(None)


def _option(number: int, passage: Passage) -> Option:
    return Option(drawn(passage_line(passage)), id=str(number), disabled=passage.kind != "quote")
