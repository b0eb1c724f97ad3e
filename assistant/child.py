"""Child processes of a pull: started with their errors kept aside, read line by line, and never left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 5.0
"""How long a child may take to end after it was asked to."""

Process = subprocess.Popen[str]


@contextmanager
def running(
    command: Sequence[str], errors: Path, env: Mapping[str, str] | None = None, *, speaks: bool = True
) -> Iterator[Process]:
    """`command` while the block runs; whatever ends the block ends it. Its standard error goes to the file `errors`,
    and its standard output too when it does not speak to us.

    Its standard input stays open until then: a child of ours that reads the end of it knows that we are gone.
    """
    with errors.open("wb") as stderr:
        stdout = subprocess.PIPE if speaks else stderr
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, text=True, env=env)
    try:
        yield process
    finally:
        _end(process)


def watch(process: Process, look: Callable[[], None]) -> int:
    """Wait for the end of `process`, calling `look` in between; its exit status."""
    while True:
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            look()


def messages(process: Process) -> Iterator[dict[str, Any]]:
    """The JSON objects `process` writes, one a line, until it ends. Other lines are not for us."""
    for line in process.stdout or ():
        if line.startswith("{"):
            yield json.loads(line)
    process.wait()


def last_words(errors: Path) -> str:
    """The last line of a child's standard error that says something."""
    lines = [line.strip() for line in errors.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"


def _end(process: Process) -> None:
    try:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
