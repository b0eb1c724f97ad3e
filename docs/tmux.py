"""A program in a tmux of its own: keys in, what is on the screen out, as text or as a picture."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PATIENCE_S = 300.0
_LOOK_S = 0.1
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fetched from a server: left out, the reader's own are taken."""
_THEME = TerminalTheme((18, 18, 18), (224, 224, 224), [(0, 0, 0)] * 8, [(128, 128, 128)] * 8)


class Tmux:
    """The program runs while this is open."""

    def __init__(self, command: list[str], size: tuple[int, int], environment: dict[str, str], folder: Path) -> None:
        self._socket, self._size = str(folder / "tmux"), size
        columns, rows = (str(one) for one in size)
        started = ["start-server", ";", "set", "-g", "status", "off", ";", "set", "-sg", "escape-time", "0", ";"]
        opened = ["new-session", "-d", "-x", columns, "-y", rows, "-c", str(folder), shlex.join(command)]
        self._tmux("-f", "/dev/null", *started, *opened, environment=environment | {"TERM": "tmux-256color"})

    def __enter__(self) -> Tmux:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type a text as it stands."""
        self._tmux("send-keys", "-l", text)

    @property
    def screen(self) -> str:
        """What is on the screen, without colours."""
        return self._tmux("capture-pane", "-p")

    def until(self, *words: str) -> None:
        """Wait for words that are on the screen together."""
        self.wait(lambda screen: all(word in screen for word in words), " and ".join(words))

    def gone(self, word: str) -> None:
        """Wait until a word is no longer on the screen."""
        self.wait(lambda screen: word not in screen, f"{word} to go")

    def picture(self, title: str) -> str:
        """The screen as an SVG, in its colours."""
        console = Console(width=self._size[0], record=True, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(self._tmux("capture-pane", "-p", "-e", "-N").rstrip("\n")))
        return _FONT.sub("", console.export_svg(title=title, theme=_THEME, unique_id="t"))

    def wait(self, true: Callable[[str], bool], what: str) -> None:
        """Wait until something is true of the screen.

        Raises:
            TimeoutError: it did not get so; its text has the screen.
        """
        end = time.monotonic() + PATIENCE_S
        while not true(screen := self.screen):
            if time.monotonic() > end:
                raise TimeoutError(f"Waited in vain for {what}:\n{screen}")
            time.sleep(_LOOK_S)

    def _tmux(self, *words: str, environment: dict[str, str] | None = None) -> str:
        done = subprocess.run(["tmux", "-S", self._socket, *words], env=environment, check=True, capture_output=True)
        return done.stdout.decode()
