"""What the tests of daemon, client and commands share: a conversation with a daemon, in a few words."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from assistant.client import Client
from assistant.daemon import spawn
from assistant.daemon.probe import holder, listener
from assistant.places import Places
from assistant.protocol import AskRequest, Done, Event, Failed, Piece
from tests.conftest import wait_until

T = TypeVar("T")
Scene = Callable[[Client], Coroutine[Any, Any, T]]

DEADLINE_S = 20.0
_LEFT: list[AsyncGenerator[Event, None]] = []
"""Streams that a scene may leave in the middle; closed one by one before its client, as `asyncio.run` would not."""


def with_client(scene: Scene[T], start: bool = False) -> T:
    """Run `scene` with a connected client; it has DEADLINE_S."""

    async def play() -> T:
        async with asyncio.timeout(DEADLINE_S), await Client.connect(start=start) as client:
            try:
                return await scene(client)
            finally:
                while _LEFT:
                    await _LEFT.pop().aclose()

    return asyncio.run(play())


async def ask(client: Client, text: str, name: str = "demo", **fields: Any) -> list[Event]:
    """Everything that happens to one message."""
    return [event async for event in client.ask(name, AskRequest.model_validate({"text": text, **fields}))]


async def until(events: AsyncGenerator[Event, None], kind: type[T]) -> T:
    """The next event of this kind."""
    _LEFT.append(events)
    async for event in events:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} came")


async def eventually(true: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for an asynchronous predicate."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in {DEADLINE_S} s: {what}") from None


async def end_the_worker(client: Client) -> None:
    """Kill the worker; the daemon has noticed when this returns."""
    pid = (await client.status()).worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    async def gone() -> bool:
        return (await client.status()).worker_pid is None

    await eventually(gone, "the daemon has noticed")


@contextmanager
def other_daemon(places: Places, protocol: int) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of another protocol, and the end of whatever took its place."""
    process = subprocess.Popen([sys.executable, "-P", "-m", "tests.old_daemon", str(protocol)])
    try:
        wait_until(lambda: listener(places.socket) == process.pid, "it listens")
        yield process
    finally:
        process.kill()
        process.wait()
        if (pid := holder(places.lock)) is not None:
            os.kill(pid, signal.SIGTERM)
            assert spawn.wait_for_end(places, pid, DEADLINE_S)


def done_of(events: list[Event]) -> Done:
    last = events[-1]
    assert isinstance(last, Done), last
    return last


def failed_of(events: list[Event]) -> Failed:
    last = events[-1]
    assert isinstance(last, Failed), last
    return last


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))
