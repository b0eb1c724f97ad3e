"""`assistant chat`: the command line, the terminal, and the Textual app that holds one chat screen.

Only what the first paint needs is imported here; the client and the wire types come after it (`tui.session`).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from typing import NoReturn

from textual.app import App
from textual.screen import Screen
from textual.theme import Theme

from assistant.errors import Exit, UsageError
from tui.screens.chat import ChatScreen
from tui.session import Options, Session

_NAME_LIMIT = 80
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
        self.set_reactive(App.theme, "calm")  # before the first style is computed, so that none is computed twice

    def get_default_screen(self) -> Screen[None]:
        return ChatScreen(self.session)

    def action_help_quit(self) -> None:
        """Ctrl+C: the second one within a moment quits."""
        now = time.monotonic()
        if now < self._quit_until:
            self.exit()
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

    def _leave(self, code: int) -> None:
        self.exit(return_code=code)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"assistant chat: {message}. See: assistant chat --help")


def main(argv: list[str]) -> int:
    """Run the chat and return the exit code: 0 after leaving by key, 130 and 143 after a signal."""
    try:
        options = _options(argv)
    except SystemExit:  # argparse has printed the help
        return Exit.OK
    app = ChatApp(options)
    try:
        app.run()
    except KeyboardInterrupt:
        return Exit.SIGINT
    return app.return_code or Exit.OK


def _options(argv: list[str]) -> Options:
    given = _parser().parse_args(argv)
    return Options(given.conversation, given.model, given.budget, given.quant, given.policy)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="assistant chat",
        description="Talk to the model on this machine. F1 inside shows the keys.",
        epilog="example: assistant chat --conversation trip --budget 900MiB",
    )
    parser.add_argument("-c", "--conversation", metavar="NAME", type=_name, help="open this one (default: the last)")
    parser.add_argument("--model", metavar="ID", help="model id, alias or source (default: as in the settings)")
    parser.add_argument("--budget", metavar="SIZE", help="memory never exceeded, for example 900MiB or 6GiB")
    parser.add_argument("--quant", metavar="Q", choices=("auto", "none", "int8", "nf4"), help="auto, none, int8 or nf4")
    parser.add_argument("--policy", metavar="P", help="how the working set is chosen, for example patched_prompt")
    parser.add_argument("--plain", action="store_true", help="plain lines, for pipes and screen readers")
    return parser


def _name(text: str) -> str:
    if not 1 <= len(text) <= _NAME_LIMIT or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a name has 1 to {_NAME_LIMIT} printable characters")
    return text
