"""Starting and stopping a daemon from outside. Light: the TUI imports this before it has painted anything."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from assistant.daemon.probe import holder, listener, lives
from assistant.errors import DaemonError, Exit
from assistant.places import Places, private

START_S = 20.0
POLL_S = 0.02
COMMAND = (sys.executable, "-P", "-m", "assistant.cli", "daemon", "run")


def start(places: Places, listen: str | None = None) -> int:
    """Start a detached daemon when none answers, wait until one does; its pid. `listen`: where on TCP too.

    Raises:
        DaemonError: it ended at once; the text is what it said.
    """
    if listener(places.socket) is not None:
        return _serving(places)
    said_before = places.log.stat().st_size if places.log.exists() else 0
    child, code = _detach(places, listen), None
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if (pid := listener(places.socket)) is not None:
            if pid != child and code is None:
                _withdraw(child)
            return pid
        code = _exit_code(child) if code is None else code
        if code == Exit.DAEMON and holder(places.lock) is None:  # it met one that was just leaving
            child, code = _detach(places, listen), None
        # A child that ended with DAEMON lost the race against another one, which will answer.
        if code not in (None, Exit.DAEMON):
            raise DaemonError(f"The daemon could not start: {_last_words(places.log, said_before)}")
        time.sleep(POLL_S)
    raise DaemonError(f"The daemon did not answer within {START_S:.0f} s; its log is {places.log}")


def stop(places: Places, seconds: float) -> int | None:
    """End the daemon that runs, within `seconds`; its pid, None when none runs.

    A signal does it, since a daemon of another version may not understand us.

    Raises:
        DaemonError: it did not end.
    """
    if (pid := holder(places.lock)) is None:
        return None
    os.kill(pid, signal.SIGTERM)
    if not wait_for_end(places, pid, seconds):
        raise DaemonError(f"The daemon (pid {pid}) did not end within {seconds:.0f} s. End it with: kill -9 {pid}")
    return pid


def wait_for_end(places: Places, pid: int, seconds: float) -> bool:
    """Whether the daemon `pid` gave its lock back and ended within `seconds`. (The socket may be somebody else's.)"""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holder(places.lock) != pid and not lives(pid):
            return True
        time.sleep(POLL_S)
    return False


def _serving(places: Places) -> int:
    """The pid of the daemon behind a socket; one that a service manager starts because we came is waited for."""
    end = time.monotonic() + START_S
    while (pid := holder(places.lock)) is None and time.monotonic() < end:
        time.sleep(POLL_S)
    if pid is None:
        raise DaemonError(f"Somebody listens at {places.socket}, but no daemon came within {START_S:.0f} s.")
    return pid


def _detach(places: Places, listen: str | None) -> int:
    """The pid of a daemon in a session of its own. (No Popen: nobody here owns this process, it outlives us.)"""
    private(places.log.parent)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(places.log), append, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = (*COMMAND, "--detached") if listen is None else (*COMMAND, "--detached", "--listen", listen)
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=files, setsid=True)


def _withdraw(pid: int) -> None:
    """End our child, which lost the race: left alone it might yet become the daemon after the one that answers."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _exit_code(pid: int) -> int | None:
    """How our child ended; None while it lives."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _last_words(log: Path, since: int) -> str:
    """The last line that is no JSON event."""
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").splitlines()
    words = [line for line in lines if line.strip() and not line.startswith("{")]
    return words[-1].removeprefix("assistant: ") if words else f"see {log}"
