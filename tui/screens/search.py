"""Search in all conversations: what is typed is looked for at once; Enter opens the conversation at that turn."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from assistant.errors import AssistantError
from tui.figures import plural, when
from tui.screens.listed import Listed
from tui.session import Session
from tui.text import clean, one_line
from tui.widgets.line import Line

if TYPE_CHECKING:
    from assistant.protocol import Hit

LIMIT = 50
_PAUSE_S = 0.12
"""So long nothing is typed before the daemon is asked."""
_WHO = {"user": "you", "assistant": "reply", "system": "system prompt", "transcript": "transcript", "tool": "result"}


class SearchScreen(Listed[tuple[str, int] | None]):
    """Gives the conversation and the turn to go to, or None."""

    PAGE = 5

    def __init__(self, session: Session, words: str = "") -> None:
        super().__init__()
        self._session = session
        self._words = words
        self._hits: list[Hit] = []
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet -wide"):
            yield Static("Search in all conversations", classes="heading", markup=False)
            yield Line(self._words, placeholder="words; the last one may be a beginning")
            yield OptionList(markup=False)
            yield Static("enter goes there · ↑ ↓ move · esc back", classes="keys", markup=False)

    @on(Input.Changed)
    def _typed(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE_S, self._look)

    @work(exclusive=True, exit_on_error=False)
    async def _look(self) -> None:
        words = self.query_one(Input).value
        try:
            self._hits = await self._session.search(words, LIMIT) if words.strip() else []
            said = _found(len(self._hits)) if words.strip() else "Search in all conversations"
        except AssistantError as error:
            self._hits, said = [], one_line(str(error), 200)
        self.query_one(".heading", Static).update(said)
        options = self.query_one(OptionList)
        options.clear_options()
        now = datetime.now().astimezone()
        options.add_options([Option(_row(hit, now)) for hit in self._hits])
        options.highlighted = 0 if self._hits else None

    def take(self, at: int) -> None:
        self.dismiss((self._hits[at].conversation, self._hits[at].turn_id))


def _found(number: int) -> str:
    if not number:
        return "Nothing found"
    return f"The first {LIMIT} turns found" if number == LIMIT else f"{plural(number, 'turn')} found"


def _row(hit: Hit, now: datetime) -> Content:
    """The conversation, who wrote it and when; under it the words, with what was found in brackets."""
    head = f" · {_WHO[hit.role]} · {when(hit.created, now)}\n"
    return Content.assemble(
        (one_line(hit.conversation, 60), "$primary"), (head, "dim"), one_line(clean(hit.snippet), 400)
    )
