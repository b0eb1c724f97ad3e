"""The Textual app: its themes, its signals, its one chat screen.

Only what the first paint needs is imported here; the client and the wire types come after it (`tui.session`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import App
from textual.await_remove import AwaitRemove
from textual.dom import DOMNode
from textual.errors import NoWidget
from textual.screen import Screen
from textual.widget import Widget

from assistant.errors import Exit
from tui import garbage, themes
from tui.options import Options
from tui.preferences import Preferences
from tui.removal import Removal
from tui.screens.chat import ChatScreen
from tui.session import Session

if TYPE_CHECKING:
    from textual.command import Provider

_QUIT_S = 2.0
Callback = Callable[..., Any]


def _commands() -> type[Provider]:
    """What the command palette offers; imported when it is opened."""
    from tui.palette import Commands

    return Commands


class ChatApp(App[None]):
    """The terminal program. What it shows is in `tui.screens`, what it knows in `tui.session`."""

    CSS_PATH = "app.tcss"
    TITLE = "assistant"
    COMMANDS = {_commands}

    def __init__(self, options: Options | None = None, preferences: Preferences | None = None) -> None:
        """The command line's options, and what the settings say about looks and keys."""
        super().__init__()
        said = preferences or Preferences()
        self.session = Session(options or Options(), said)
        self._quit_until = 0.0
        if said.keys:
            self.set_keymap(said.keys)
        for theme in themes.OWN.values():
            self.register_theme(theme)
        self._start_with_theme(said.theme or themes.DEFAULT)

    def _start_with_theme(self, name: str) -> None:
        """Assigning to `theme` would compute every style twice before the first paint."""
        self.set_reactive(App.theme, name)
        self.stylesheet.set_variables(self.get_css_variables())

    def get_default_screen(self) -> Screen[None]:
        return ChatScreen(self.session)

    def action_help_quit(self) -> None:
        """Ctrl+C: the second one within a moment quits, with the exit code of an interrupt."""
        now = time.monotonic()
        if now < self._quit_until:
            self.exit(return_code=int(Exit.SIGINT))
        else:
            self._quit_until = now + _QUIT_S
            self._hint("Ctrl+C again quits.")

    def _hint(self, sentence: str) -> None:
        if isinstance(self.screen, ChatScreen):
            self.screen.notice(sentence)
        else:
            self.notify(sentence, timeout=_QUIT_S, markup=False)

    def copy_to_clipboard(self, text: str) -> None:
        """Onto the clipboard of the terminal, also through tmux and screen."""
        from tui.clipboard import sequences

        self._clipboard = text
        if self._driver is not None:
            self._driver.write(sequences(text, os.environ))

    async def on_event(self, event: events.Event) -> None:
        """A click on what has just been removed, and is still drawn, is a click on nothing."""
        if not (isinstance(event, events.MouseDown) and self._removed_at(event.x, event.y)):
            await super().on_event(event)

    def _removed_at(self, x: int, y: int) -> bool:
        try:
            return self.screen.get_widget_at(x, y)[0].parent is None
        except NoWidget:
            return False

    def call_next(self, callback: Callback, *args: Any, **kwargs: Any) -> None:
        """Of removals that nobody waits for the app itself sees the end."""
        super().call_next(Removal.of(callback) if isinstance(callback, AwaitRemove) else callback, *args, **kwargs)

    def _prune(self, *nodes: Widget, parent: DOMNode | None = None) -> AwaitRemove:
        return Removal.of(super()._prune(*nodes, parent=parent))

    def action_command_palette(self) -> None:
        """Everything that can be done, to choose from."""
        from tui.palette import Palette

        if not any(isinstance(one, Palette) for one in self.screen_stack):
            self.push_screen(Palette())

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGTERM, Exit.SIGTERM), (signal.SIGHUP, 129), (signal.SIGINT, Exit.SIGINT)):
            loop.add_signal_handler(number, self._leave, int(code))

    async def on_unmount(self) -> None:
        await self.session.close()
        garbage.end()

    def _leave(self, code: int) -> None:
        self.exit(return_code=code)
