"""What the benchmarks of the terminal program are played on: a daemon with a scripted worker, and a pseudo terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from assistant.client import Client
from assistant.daemon.probe import listener
from assistant.places import find_places
from assistant.protocol import ImportRequest, NewTurn
from tests.home import make_home

DEADLINE_S = 60.0
SIZE = (120, 40)
DAEMON = (sys.executable, "-P", str(Path(__file__).parents[1] / "tests" / "fake_daemon.py"))
CHAT = (sys.executable, "-c", "import sys; from assistant.cli import main; sys.exit(main())", "chat")
LINE = "Line {line} of turn {turn}: the ferry leaves at nine, and the dog comes along.\n"


@contextmanager
def running_daemon() -> Iterator[None]:
    """A daemon with a scripted worker in a home of its own, which this process and its children use from here on."""
    home = make_home()
    os.environ |= {"ASSISTANT_HOME": str(home), "ASSISTANT_MODEL": "fake"}
    daemon = subprocess.Popen(DAEMON, stderr=subprocess.DEVNULL)
    try:
        _wait_for_socket()
        yield
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_for_socket() -> None:
    end = time.monotonic() + DEADLINE_S
    while listener(find_places().socket) is None:
        if time.monotonic() > end:
            raise SystemExit("The daemon does not answer.")
        time.sleep(0.02)


def seed(name: str, texts: Sequence[str]) -> None:
    """Store a conversation of these turns, user and assistant in turn."""
    turns = [NewTurn(role="assistant" if at % 2 else "user", text=text) for at, text in enumerate(texts)]
    asyncio.run(_import(name, ImportRequest(turns=turns)))


async def _import(name: str, request: ImportRequest) -> None:
    async with await Client.connect(start=False) as client:
        async for _ in client.import_turns(name, request):
            pass


def paragraphs(turn: int, lines: int) -> str:
    """The text of a turn: paragraphs of five lines, as a reply has them."""
    return "".join(LINE.format(turn=turn, line=line) + ("\n" if line % 5 == 4 else "") for line in range(lines))


class Terminal:
    """A program in a pseudo terminal. Everything it writes is read at once, so that it never waits for us."""

    def __init__(self, command: Sequence[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def press(self, keys: str) -> float:
        """Send keys; the time at which they were sent."""
        sent = time.perf_counter()
        os.write(self._master, keys.encode())
        return sent

    def until(self, *words: str, seconds: float = DEADLINE_S) -> float:
        """Read until all words have come out (since this call); the time at which the last one did."""
        wanted, seen, end = [word.encode() for word in words], b"", time.perf_counter() + seconds
        while not all(word in seen for word in wanted):
            if not (more := self._read(end - time.perf_counter())):
                raise SystemExit(f"{words} did not come within {seconds:.0f} s. There was: {seen[-2000:]!r}")
            seen += more
        return time.perf_counter()

    def rest(self, seconds: float) -> None:
        """Read and forget for a while: a person between two keys."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def _read(self, seconds: float) -> bytes:
        if seconds <= 0 or not select.select([self._master], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self._master, 1 << 20)
        except OSError:  # the last process on the other side has closed it
            return b""

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        self.rest(0.5)
        self._process.kill()
        self._process.wait()
        os.close(self._master)
