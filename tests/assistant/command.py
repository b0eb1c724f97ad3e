"""Commands as a user or a script calls them: in a process of their own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from typing import Any

PROGRAM = [sys.executable, "-P", "-m", "assistant.cli"]


def run(*args: str, text: str | bytes | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command, with `text` on standard input; check its exit code."""
    given = text.encode() if isinstance(text, str) else text
    stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    done = subprocess.run([*PROGRAM, *args], capture_output=True, timeout=60, **stdin)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, (done.returncode, out, err)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(args, code, out, err)


def run_json(*args: str, text: str | None = None, code: int = 0) -> Any:
    """The one JSON value on standard output."""
    return json.loads(run(*args, "--json", text=text, code=code).stdout)


def on_a_terminal(*args: str, stream: str = "stdout") -> str:
    """What a command writes to a terminal that is its `stream` (and standard input); the other one goes nowhere."""
    ours, theirs = pty.openpty()
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {stream: theirs}
    done = subprocess.Popen([*PROGRAM, *args], stdin=theirs, **outputs)  # type: ignore[call-overload]
    os.close(theirs)
    shown = all_of(ours)
    assert done.wait() == 0
    return shown


def all_of(ours: int) -> str:
    """What comes out of a terminal until its other end is closed; then ours is closed too."""
    shown = b""
    with suppress(OSError):  # Linux says EIO when the other end is closed
        while more := os.read(ours, 65536):
            shown += more
    os.close(ours)
    return shown.decode()
