"""The Textual app: its theme, its signals, its one chat screen.

Only what the first paint needs is imported here; the client and the wire types come after it (`tui.session`).
"""

from __future__ import annotations

import asyncio
import signal
import time

from textual.app import App
from textual.screen import Screen
from textual.theme import Theme

from assistant.errors import Exit
from tui import garbage
from tui.options import Options
from tui.screens.chat import ChatScreen
from tui.session import Session

_QUIT_S = 2.0

CALM = Theme(
    name="calm",
    primary="#8fb8de",
    secondary="#a9b9c9",
    accent="#7cc4a4",
    foreground="#d7dce2",
    background="#15181d",
    surface="#1b1f26",
    panel="#242a33",
    success="#7cc4a4",
    warning="#e0b36a",
    error="#e08a8a",
    dark=True,
    variables={"footer-background": "#15181d", "scrollbar": "#2c333d", "scrollbar-background": "#15181d"},
)


class ChatApp(App[None]):
    """The terminal program. What it shows is in `tui.screens`, what it knows in `tui.session`."""

    CSS_PATH = "app.tcss"
    TITLE = "assistant"
    ENABLE_COMMAND_PALETTE = True

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.session = Session(options or Options())
        self._quit_until = 0.0
        self.register_theme(CALM)
        self._start_with_theme(CALM.name)

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

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGTERM, Exit.SIGTERM), (signal.SIGHUP, 129), (signal.SIGINT, Exit.SIGINT)):
            loop.add_signal_handler(number, self._leave, int(code))

    async def on_unmount(self) -> None:
        await self.session.close()
        garbage.end()

    def _leave(self, code: int) -> None:
        self.exit(return_code=code)
