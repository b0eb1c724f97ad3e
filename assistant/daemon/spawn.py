"""Starting and stopping a daemon from outside. Light: the TUI imports this before it has painted anything."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from assistant.daemon.probe import listener
from assistant.errors import DaemonError, Exit
from assistant.places import Places, private

START_S = 20.0
POLL_S = 0.02
COMMAND = (sys.executable, "-m", "assistant.cli", "daemon", "run")


def start(places: Places) -> int:
    """Start a detached daemon when none answers, wait until one does; its pid.

    Raises:
        DaemonError: it ended at once; the text is what it said.
    """
    if (pid := listener(places.socket)) is not None:
        return pid
    said_before = places.log.stat().st_size if places.log.exists() else 0
    child = _detach(places)
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if (pid := listener(places.socket)) is not None:
            return pid
        # A child that ended with DAEMON lost the race against another one, which will answer.
        if child.poll() not in (None, Exit.DAEMON):
            raise DaemonError(f"The daemon could not start: {_last_words(places.log, said_before)}")
        time.sleep(POLL_S)
    raise DaemonError(f"The daemon did not answer within {START_S:.0f} s; its log is {places.log}")


def wait_for_end(places: Places, pid: int, seconds: float) -> bool:
    """Whether the daemon `pid` stopped listening and ended within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if listener(places.socket) != pid and not _lives(pid):
            return True
        time.sleep(POLL_S)
    return False


def _detach(places: Places) -> subprocess.Popen[bytes]:
    """A daemon in a session of its own, in /, so that it serves every folder and survives this terminal."""
    private(places.log.parent)
    output = os.open(places.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            COMMAND, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    finally:
        os.close(output)


def _lives(pid: int) -> bool:
    """Whether the process exists and is not a zombie that its parent has not asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _last_words(log: Path, since: int) -> str:
    """The last line that is no JSON event."""
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").splitlines()
    words = [line for line in lines if line.strip() and not line.startswith("{")]
    return words[-1].removeprefix("assistant: ") if words else f"see {log}"
