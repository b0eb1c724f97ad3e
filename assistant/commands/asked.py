"""How a command asks the daemon one thing, and which conversation it means when none was named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer

from assistant.client import Client
from assistant.errors import UsageError

T = TypeVar("T")

In = Annotated[str | None, typer.Option("--conversation", "-c", metavar="NAME", help="Default: the latest one.")]


def asked(action: Callable[[Client], Coroutine[Any, Any, T]], *, start: bool = True) -> T:
    """What `action` gets from the daemon; without `start` none is started for it."""

    async def connected() -> T:
        async with await Client.connect(start=start) as client:
            return await action(client)

    return asyncio.run(connected())


async def latest(client: Client) -> str | None:
    """The conversation written to last, if there is any."""
    last = max(await client.conversations(), key=lambda one: one.updated, default=None)
    return None if last is None else last.name


async def named(client: Client, conversation: str | None) -> str:
    """The conversation of that name, or the one written to last.

    Raises:
        UsageError: there is none.
    """
    name = conversation or await latest(client)
    if name is None:
        raise UsageError('There are no conversations yet. Begin one: assistant ask -c trip "hello"')
    return name
