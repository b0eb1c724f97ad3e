"""What the panels over the chat share: a heading, a body, a sentence for what went wrong, and loading in a worker."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.types import CSSPathType
from textual.widget import Widget
from textual.widgets import Static

from assistant.errors import AssistantError
from tui.panels.lines import Line
from tui.screens.modal import Modal
from tui.session import Session
from tui.text import clean

T = TypeVar("T")


class Panel(Modal[T]):
    """A screen about the open conversation. A subclass says what is in it, and loads what it shows."""

    CSS_PATH: ClassVar[CSSPathType | None] = "../panel.tcss"
    BINDINGS = [Binding("escape", "close", "Back")]
    HEADING = ""
    KEYS = "esc back"

    def __init__(self, session: Session, name: str | None) -> None:
        """`name`: the open conversation; None when there is none yet."""
        super().__init__()
        self.session = session
        self.conversation = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel"):
            yield Static(self.HEADING, classes="heading", markup=False)
            yield from self.inside()
            yield Static("", classes="error", markup=False)
            yield Static(self.KEYS, classes="keys", markup=False)

    @abstractmethod
    def inside(self) -> Iterator[Widget]:
        """The widgets between heading and keys."""

    @abstractmethod
    async def fetch(self) -> None:
        """Ask the daemon for what is shown, and show it."""

    def on_mount(self) -> None:
        self.load()

    @work(group="load", exclusive=True, exit_on_error=False)
    async def load(self) -> None:
        """`fetch`; what goes wrong is a sentence."""
        try:
            await self.fetch()
        except AssistantError as error:
            self.say(str(error))
        else:
            self.say("")

    def action_close(self) -> None:
        self.dismiss(None)

    def title_of(self, text: str) -> None:
        """Another heading."""
        self.query_one(".heading", Static).update(clean(text))

    def say(self, sentence: str) -> None:
        """Show what went wrong, or nothing."""
        line = self.query_one(".error", Static)
        line.update(clean(sentence))
        line.display = bool(sentence)


def drawn(lines: Iterable[Line]) -> Content:
    """Lines as one text; nothing in them is read as markup."""
    return Content("\n").join(Content.assemble(*((clean(text), style) for text, style in line)) for line in lines)
