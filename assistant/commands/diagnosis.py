"""What `assistant doctor` finds wrong with a daemon or its worker, as seen from outside, and what helps."""

from __future__ import annotations

import asyncio
import stat

from assistant.client import Client
from assistant.daemon.probe import holder, listener
from assistant.errors import AssistantError
from assistant.places import Places
from assistant.reports import DaemonStatus

ANSWER_S = 10.0
"""How long a daemon may take to say how it is."""


def daemon(places: Places) -> str:
    """Which daemon answers, if any.

    Raises:
        AssistantError: one is there that does not; the text says how to end it.
    """
    pid = listener(places.socket)
    if pid is None:
        return _absent(places)
    if stat.S_IMODE(places.socket.stat().st_mode) & 0o077:
        raise AssistantError(f"The socket {places.socket} is open to other users. Run: assistant daemon restart")
    _ask(places, pid)
    return f"pid {pid}, answers"


def worker(places: Places) -> str:
    """How the worker of the daemon is, if there is one.

    Raises:
        AssistantError: the last one died.
    """
    pid = listener(places.socket)
    if pid is None:
        return "none; the daemon starts one with the first message"
    status = _ask(places, pid)
    if status.worker_failure is not None:
        again = "The next message starts a new one" if status.worker_pid is None else "Another one is there"
        raise AssistantError(
            f"The last worker {status.worker_failure}. {again}; if that dies too, see {places.log}, and set a smaller "
            "budget if memory ran out"
        )
    return "none; one is started with the next message" if status.worker_pid is None else f"pid {status.worker_pid}"


def _absent(places: Places) -> str:
    """That nobody answers is as it should be, unless somebody holds the lock."""
    pid = holder(places.lock)
    if pid is not None:
        raise AssistantError(
            f"The process {pid} holds {places.lock} and does not answer. If it is not just starting, run: "
            f"kill -9 {pid}; assistant daemon start"
        )
    left = " (one was killed; the next start replaces its socket)" if places.socket.exists() else ""
    return f"none runs; one is started when it is needed{left}"


def _ask(places: Places, pid: int) -> DaemonStatus:
    async def ask() -> DaemonStatus:
        async with asyncio.timeout(ANSWER_S), await Client.connect(places, start=False) as client:
            return await client.status()

    try:
        return asyncio.run(ask())
    except TimeoutError:
        raise AssistantError(
            f"The daemon (pid {pid}) does not answer. Run: kill -9 {pid}; assistant daemon start"
        ) from None
