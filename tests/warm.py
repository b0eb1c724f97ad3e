"""Processes that begin with everything imported: each is a fork of one process that did nothing but import.

Importing torch and transformers takes a process several seconds, the daemon's modules two, a command's one; the tests
start hundreds of each.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["assistant.worker.__main__", "assistant.worker.engine", "assistant.cli", "tests.fake_daemon"]
)
_STREAMS = ("stdin", "stdout", "stderr")

Main = Callable[[], int | None]


class WarmProcess:
    """`main` in a process of its own, with as much of `subprocess.Popen` as tests use.

    Those of `streams` that are named are pipes, the others lead nowhere. A module's function, so that it has a name.
    """

    def __init__(
        self, main: Main, *streams: str, environment: dict[str, str] | None = None, text: bool = False
    ) -> None:
        theirs, ours = dict[str, Connection](), dict[str, Connection]()
        for name in streams:
            reader, writer = _CONTEXT.Pipe(duplex=False)
            theirs[name], ours[name] = (reader, writer) if name == "stdin" else (writer, reader)
        chosen = dict(os.environ) if environment is None else environment
        self._process = _CONTEXT.Process(target=_serve, args=(main, theirs, chosen), daemon=True)
        self._process.start()
        for end in theirs.values():
            end.close()
        self.stdin, self.stdout, self.stderr = (_file(ours.get(name), name, text) for name in _STREAMS)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it goes on."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; TimeoutExpired if it goes on."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self._process.exitcode

    def communicate(self, given: bytes = b"") -> tuple[bytes, bytes]:
        """Give it all its input, and take all that it says on `stdout` and `stderr`."""
        with ThreadPoolExecutor(2) as pool:
            out, err = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            if self.stdin is not None:
                with suppress(BrokenPipeError), self.stdin:
                    self.stdin.write(given)
            said = out.result(), err.result()
        self.stdout.close()
        self.stderr.close()
        return said

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.join()


def _file(end: Connection | None, name: str, text: bool) -> Any:
    if end is None:
        return None
    descriptor = os.dup(end.fileno())
    end.close()
    mode = "w" if name == "stdin" else "r"
    return os.fdopen(descriptor, mode if text else f"{mode}b")


def _serve(main: Main, streams: dict[str, Connection], environment: dict[str, str]) -> None:
    """In the fork: environment and standard streams as a parent sets them, then `main`."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    null = os.open(os.devnull, os.O_RDWR)
    for number, name in enumerate(_STREAMS):
        os.dup2(streams[name].fileno() if name in streams else null, number)
    for end in streams.values():
        end.close()
    os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.exit(main())
