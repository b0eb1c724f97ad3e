"""What is folded to one line until someone wants to read it: the reasoning of a reply, the result of a tool."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tui.figures import plural


class Fold(Vertical):
    """One line, and under it the text when it is open. A click opens and closes it."""

    DEFAULT_CSS = """
    Fold {
        height: auto; margin-top: 1;
        .fold { height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
        .thought { height: auto; padding-left: 2; color: $text-muted; text-style: italic; display: none; }
        &.-open .thought { display: block; }
    }
    """

    def __init__(self, *, shown: bool, of: str = "reasoning") -> None:
        """`of`: what is folded, in a word."""
        super().__init__(classes="-open" if shown else "")
        self._of = of
        self._thought = ""
        self._thinking = False

    def compose(self) -> ComposeResult:
        yield Static("", classes="fold", markup=False)
        yield Static("", classes="thought", markup=False)

    def on_mount(self) -> None:
        self._draw()

    @property
    def shown(self) -> bool:
        return self.has_class("-open")

    def say(self, thought: str, *, thinking: bool) -> None:
        """What is thought so far, and whether more may come."""
        self._thought, self._thinking = thought, thinking
        if self.is_mounted:
            self._draw()

    def open(self, shown: bool) -> None:
        """Show the text, or only the line."""
        self.set_class(shown, "-open")
        self._draw()

    def on_click(self) -> None:
        self.open(not self.shown)

    def _draw(self) -> None:
        words = plural(len(self._thought.split()), "word")
        mark = "▾" if self.shown else "▸"
        self.query_one(".fold", Static).update(f"{mark} {'thinking' if self._thinking else self._of} · {words}")
        self.query_one(".thought", Static).update(self._thought.strip() if self.shown else "")
