"""The key list, generated from the bindings themselves and the keys they have now, so that it cannot be wrong."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.widgets import Static

from tui.keys import Keymap, bindings_of, sections, shown
from tui.screens.modal import Modal


class HelpScreen(Modal[None]):
    """What every key does, section by section, with the id by which it can be changed in the settings."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [Binding("escape,f1,q,enter", "dismiss(None)", "Close")]

    def __init__(self, keymap: Keymap) -> None:
        super().__init__()
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet -wide"):
            yield Static("Keys and commands", classes="heading", markup=False)
            with VerticalScroll(classes="body"):
                for title, owner in sections():
                    yield Static(_table(title, owner, self._keymap), markup=False)
                yield Static(_commands(), markup=False)
            yield Static(
                "esc closes · change keys by their ids, in [keys] of the settings", classes="keys", markup=False
            )


def _table(title: str, owner: type[DOMNode], keymap: Keymap) -> Content:
    parts: list[str | tuple[str, str]] = [(f"{title}\n", "$primary")]
    for one in bindings_of(owner):
        parts += [f"  {shown(one, keymap):<14} {one.description}", (f"  {one.id}\n" if one.id else "\n", "dim")]
    return Content.assemble(*parts)


def _commands() -> Content:
    from tui.commands import COMMANDS

    parts: list[str | tuple[str, str]] = [("Commands, in the prompt\n", "$primary")]
    for one in COMMANDS:
        parts += [f"  {f'/{one.name} {one.argument}'.rstrip():<26} {one.words}\n"]
    return Content.assemble(*parts)
