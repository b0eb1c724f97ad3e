"""The daemon's log, as it grows."""

from __future__ import annotations

import json
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Log, Static

from tui.screens.modal import Modal
from tui.text import clean

TAIL = 200_000
"""Bytes that are shown of what was written before."""
_LOOK_S = 0.5


class LogScreen(Modal[None]):
    """Shows the end of a file and follows it; scrolled up it stays there."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [Binding("escape,q,f9", "dismiss(None)", "Close")]

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._at = 0
        self._rest = b""

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet -full"):
            yield Static(str(self._path), classes="heading", markup=False)
            yield Log()
            yield Static("arrows and pages scroll · esc closes", classes="keys", markup=False)

    def on_mount(self) -> None:
        self._look()
        self.set_interval(_LOOK_S, self._look)
        self.query_one(Log).focus()

    def _look(self) -> None:
        log = self.query_one(Log)
        try:
            length = self._path.stat().st_size
            if length < self._at:  # it was begun anew
                self._at, self._rest = 0, b""
                log.clear()
            if length > self._at:
                log.write_lines(self._lines(max(self._at, length - TAIL)))
        except OSError:
            log.clear()
            log.write_line("There is no log yet; the daemon writes it.")

    def _lines(self, start: int) -> list[str]:
        with self._path.open("rb") as file:
            file.seek(start)
            read = file.read()
        self._at = start + len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [clean(told(line.decode(errors="replace"))) for line in lines]


def told(line: str) -> str:
    """`{"event": "started", …}` → `21:03:11 info  started  pid=9117`; what is no such object stays as it is."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict) or "event" not in found:
        return line
    rest = {name: value for name, value in found.items() if name not in ("event", "level", "timestamp")}
    moment = str(found.get("timestamp", ""))[11:19]
    words = " ".join(f"{name}={value}" for name, value in rest.items())
    return f"{moment} {found.get('level', ''):<7} {found['event']}  {words}".rstrip()
