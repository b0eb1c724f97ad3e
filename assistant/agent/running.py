"""One child process with its own session: what it says is read in constant memory, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assistant.agent.cut import Kept
from assistant.agent.limits import Limits
from assistant.agent.watching import EVERY_S, excess

FRAME = 1024 * 1024
"""Bytes that the answer of a host may take; it cuts the text in it itself."""
TIMEOUT = "timeout"
_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. `answer`: the line of its standard output, where one was expected and came.

    `status`: its exit status as a shell tells it, None where we ended it: for `stopped` (`TIMEOUT`, or which limit it
    exceeded), or because its answer was there.
    """

    answer: bytes | None
    printed: str
    left_out: int
    status: int | None
    stopped: str | None


class _Line:
    """The first line of a stream, and when it is there."""

    def __init__(self, there: asyncio.Event) -> None:
        self._there = there
        self._data = bytearray()
        self.line: bytes | None = None

    def feed(self, data: bytes) -> None:
        if self.line is not None or len(self._data) > FRAME:
            return
        self._data += data
        line, newline, _ = self._data.partition(b"\n")
        if newline and len(line) <= FRAME:
            self.line = bytes(line)
            self._there.set()


class _Reader(asyncio.Protocol):
    """Hands over what comes; `done` is set at the end of the stream."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._transport: asyncio.BaseTransport | None = None
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the signature is asyncio's)
        self.done.set()

    def close(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.close()


async def run_child(
    command: Sequence[str],
    *,
    stdin: bytes,
    env: Mapping[str, str],
    folder: Path,
    limits: Limits,
    seconds: float,
    framed: bool,
) -> Ended:
    """Run `command` in `folder` until it ends, answers, exceeds a limit or `seconds` are over.

    Whatever ends this, being cancelled included, ends the child's whole process group first.

    Raises:
        OSError: it cannot be started.
    """
    printed, over = Kept(limits.output), asyncio.Event()
    line = _Line(over)
    process = _start(command, stdin, env, folder, framed=framed)
    takes = {process.stdout: line.feed if framed else printed.feed, process.stderr: printed.feed}
    streams = {stream: take for stream, take in takes.items() if stream is not None}
    readers: list[_Reader] = []
    try:
        end = _End(process, over)
        for stream, take in streams.items():
            readers.append(await _read(stream, take))  # one by one: being cancelled must not lose one
        stopped = await _until(over, process.pid, folder, limits, seconds)
        _kill(process)
        await _drained(readers)
    finally:
        _kill(process)
        process.wait()
        for reader in readers:
            reader.close()
        for stream in streams:
            stream.close()
    text, left_out = printed.text()
    return Ended(line.line, text, left_out, end.status, stopped)


def _start(
    command: Sequence[str], stdin: bytes, env: Mapping[str, str], folder: Path, *, framed: bool
) -> subprocess.Popen[bytes]:
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        errors = subprocess.PIPE if framed else subprocess.STDOUT
        return subprocess.Popen(
            command,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env=dict(env),
            start_new_session=True,
        )


class _End:
    """Notices the end of a process and leaves it its number, by which its group is killed."""

    def __init__(self, process: subprocess.Popen[bytes], over: asyncio.Event) -> None:
        self.status: int | None = None
        self._process = process
        self._over = over
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        with suppress(ChildProcessError, RuntimeError):  # somebody else waited for it; the loop is closed
            found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._loop.call_soon_threadsafe(self._note, found)

    def _note(self, found: os.waitid_result | None) -> None:
        if found is not None and not self._over.is_set():
            self.status = found.si_status + (0 if found.si_code == os.CLD_EXITED else 128)
        self._over.set()


async def _read(stream: IO[bytes], take: Callable[[bytes], None]) -> _Reader:
    _, reader = await asyncio.get_running_loop().connect_read_pipe(lambda: _Reader(take), stream)
    return reader


async def _until(over: asyncio.Event, session: int, folder: Path, limits: Limits, seconds: float) -> str | None:
    """Wait until it is over: why we end it, or None when it ended by itself or answered."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), min(left, EVERY_S))
            return None
        if why := await asyncio.to_thread(excess, session, folder, limits):
            return why
    return None if over.is_set() else TIMEOUT


async def _drained(readers: Sequence[_Reader]) -> None:
    """Nobody can write any more: what is still in the pipes comes now."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            for reader in readers:
                await reader.done.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the whole group. Its number is its leader's, which stays taken until the leader is waited for."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
