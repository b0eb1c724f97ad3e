"""Worker processes that begin with everything imported: each is a fork of one process that did nothing but import.

Importing torch and transformers takes a process several seconds, and the tests start hundreds of them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["assistant.worker.__main__", "assistant.worker.engine"])


class WarmProcess:
    """`python -m assistant.worker`, warm. `stdin` and `stdout` are its pipes; what it says besides is dropped."""

    def __init__(self) -> None:
        requests, writer = _CONTEXT.Pipe(duplex=False)
        reader, events = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_serve, args=(requests, events, dict(os.environ)), daemon=True)
        self._process.start()
        self.stdin, self.stdout = _file(writer, "wb"), _file(reader, "rb")
        requests.close()
        events.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, timeout: float) -> int:
        """Its exit code; TimeoutError if it goes on."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"The worker did not end within {timeout:g} s.")
        return self._process.exitcode

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.join()


def _file(end: Connection, mode: str) -> Any:
    descriptor = os.dup(end.fileno())
    end.close()
    return os.fdopen(descriptor, mode)


def _serve(requests: Connection, events: Connection, environment: dict[str, str]) -> None:
    """In the fork: environment and standard streams as the daemon sets them, then the worker's own main."""
    from assistant.worker.__main__ import main

    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    null = os.open(os.devnull, os.O_WRONLY)
    for number, descriptor in enumerate((requests.fileno(), events.fileno(), null)):
        os.dup2(descriptor, number)
    requests.close()
    events.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    main()
