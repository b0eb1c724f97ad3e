"""The chat program as a process: what it imports, how it leaves a terminal, with which exit code."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningDaemon
from tests.tui.test_chat import history
from tui.app import main

DEADLINE_S = 30.0
CHAT = (sys.executable, "-c", "import sys; from assistant.cli import main; sys.exit(main())", "chat", "-c", "pty")

HEADLESS = """
import asyncio, sys
import tui.app
early = {"pydantic", "httpx2", "assistant.client", "assistant.protocol", "markdown_it"} & set(sys.modules)
assert not early, early
from tests.tui.driver import chatting
async def run():
    async with chatting() as driver:
        await driver.ask("hello")
asyncio.run(run())
heavy = {"torch", "transformers", "sklearn", "fastapi", "uvicorn", "sqlite_utils", "memory"} & set(sys.modules)
assert not heavy, heavy
"""


class Terminal:
    """`assistant chat` in a pseudo terminal."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen(
            CHAT,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=os.environ | {"TERM": "xterm-256color"},
            start_new_session=True,
        )

    def until(self, seen: bytes) -> None:
        self._read(lambda: seen in self.output, repr(seen))

    def until_said(self, turns: list[tuple[str, str]]) -> None:
        """Until these are the turns of the conversation: their first words and states."""
        self._read(
            lambda: (
                [(text.split(None, 1)[0], state) for _, text, state in asyncio.run(history("pty")) if text] == turns
            ),
            str(turns),
        )

    def press(self, keys: bytes) -> None:
        """Press keys; what came out before no longer counts."""
        self.output = b""
        os.write(self.master, keys)

    def wait(self) -> int:
        self._read(lambda: self.process.poll() is not None, "the end")
        return self.process.wait()

    def _read(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < end, f"not in {DEADLINE_S} s: {what}\n{self.output[-3000:]!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self.output += os.read(self.master, 65536)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(daemon: RunningDaemon) -> Iterator[Terminal]:
    """A chat in a terminal, ready for the first key."""
    terminal = Terminal()
    terminal.until(b"ready")
    yield terminal
    terminal.close()


def assert_restored(terminal: Terminal) -> None:
    while select.select([terminal.master], [], [], 0.05)[0]:
        terminal.output += os.read(terminal.master, 65536)
    assert termios.tcgetattr(terminal.slave) == terminal.before
    for code in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?2004l"):
        assert code in terminal.output


def test_no_heavy_module_is_imported(daemon: RunningDaemon) -> None:
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", HEADLESS], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_type_stream_and_quit_by_key(terminal: Terminal) -> None:
    terminal.press(b"hello\r")
    terminal.until(b"one")
    terminal.until(b"tok/s")
    terminal.press(b"\x11")
    assert terminal.wait() == 0
    assert_restored(terminal)


def test_ask_cancel_and_quit(terminal: Terminal) -> None:
    terminal.press(b"slow\r")
    terminal.until(b"Waiting")
    terminal.press(b"\x1b")
    terminal.until_said([("slow", "done"), ("Waiting", "interrupted")])
    terminal.until(b"ready")
    terminal.press(b"hello\r")
    terminal.until_said([("slow", "done"), ("Waiting", "interrupted"), ("hello", "done"), ("You", "done")])
    terminal.press(b"\x11")
    assert terminal.wait() == 0
    assert_restored(terminal)


def test_ctrl_c_twice(terminal: Terminal) -> None:
    terminal.press(b"\x03")
    terminal.until(b"again quits")
    terminal.press(b"\x03")
    assert terminal.wait() == 130
    assert_restored(terminal)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
def test_signals(terminal: Terminal, number: signal.Signals, code: int) -> None:
    terminal.press(b"slow\r")
    terminal.until(b"Waiting")
    terminal.process.send_signal(number)
    assert terminal.wait() == code
    assert_restored(terminal)


def test_help_and_wrong_flags(capsys: pytest.CaptureFixture[str]) -> None:
    from assistant.errors import UsageError

    assert main(["-h"]) == 0
    assert "--budget SIZE" in capsys.readouterr().out
    for wrong in (["--quant", "int7"], ["--nothing"], ["-c", ""], ["-c", "a\nb"]):
        with pytest.raises(UsageError, match="assistant chat"):
            main(wrong)
