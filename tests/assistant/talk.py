"""What the tests of daemon, client and commands share: a conversation with a daemon, in a few words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from assistant.client import Client
from assistant.protocol import AskRequest, Done, Event, Failed, Piece

T = TypeVar("T")
Scene = Callable[[Client], Coroutine[Any, Any, T]]

DEADLINE_S = 20.0


def with_client(scene: Scene[T], start: bool = False) -> T:
    """Run `scene` with a connected client; it has DEADLINE_S."""

    async def play() -> T:
        async with asyncio.timeout(DEADLINE_S), await Client.connect(start=start) as client:
            return await scene(client)

    return asyncio.run(play())


async def ask(client: Client, text: str, name: str = "demo", **fields: Any) -> list[Event]:
    """Everything that happens to one message."""
    return [event async for event in client.ask(name, AskRequest.model_validate({"text": text, **fields}))]


async def until(events: AsyncIterator[Event], kind: type[T]) -> T:
    """The next event of this kind."""
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
