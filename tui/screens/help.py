"""The key list, generated from the bindings themselves, so that it cannot be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen
from textual.widgets import Static

Section = tuple[str, type[DOMNode]]


class HelpScreen(ModalScreen[None]):
    """What every key does, section by section."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [Binding("escape,f1,q,enter", "dismiss(None)", "Close")]

    def __init__(self, sections: Sequence[Section]) -> None:
        super().__init__()
        self._sections = sections

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Static("Keys", classes="heading", markup=False)
            with VerticalScroll(classes="body"):
                for title, owner in self._sections:
                    yield Static(_table(title, owner), markup=False)
            yield Static("esc closes", classes="keys", markup=False)


def keys_of(owner: type[DOMNode]) -> list[tuple[str, str]]:
    """(key, what it does) of the bindings that a class itself declares and shows."""
    declared: Iterable[object] = owner.__dict__.get("BINDINGS", ())
    return [
        (one.key_display or _spelled(one.key), one.description)
        for one in declared
        if isinstance(one, Binding) and one.description
    ]


def _spelled(keys: str) -> str:
    """`ctrl+n,f2` → `^n or f2`; Textual's own short form of Ctrl."""
    names = {"escape": "esc", "pageup": "pgup", "pagedown": "pgdn"}
    return " or ".join(names.get(key, key).replace("ctrl+", "^") for key in keys.split(","))


def _table(title: str, owner: type[DOMNode]) -> Content:
    rows = [f"  {key:<12}{words}\n" for key, words in keys_of(owner)]
    return Content.assemble((f"{title}\n", "dim"), *rows)
