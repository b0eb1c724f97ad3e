"""What comes of a request: its text as it is written, then what it says and calls; a client that leaves cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from fastapi import Request

from assistant.daemon.exchange import Exchange
from assistant.daemon.service import Service
from assistant.daemon.v1.errors import ApiError, failure
from assistant.daemon.v1.undecided import Undecided
from assistant.daemon.v1.wire import Logprob, Spent, logprob
from assistant.protocol import Call, Done, Event, Failed, Piece

HOLD_S = 15.0
"""How long a stream waits for its first word before it begins without: until then a refusal has its own status."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that was written, and what its tokens are worth where that was asked for."""

    text: str
    logprobs: list[Logprob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Whole:
    """A finished reply: what it says beside its calls, and how it ended."""

    done: Done
    said: str
    calls: list[Call]

    @property
    def cut_off(self) -> bool:
        """Whether the limit of tokens ended it."""
        return self.done.finish == "length"

    def spent(self) -> Spent:
        """Our usage record of it."""
        problems = self.done.written.problems if self.done.written is not None else []
        return Spent(**self.done.usage.model_dump(), conversation=self.done.conversation, problems=problems)


def call_id(reply_id: int, at: int) -> str:
    """The id of a reply's call number `at`: the same whenever it is asked for."""
    return f"call_{reply_id}_{at}"


async def written(events: AsyncIterator[Event], *, may_call: bool) -> AsyncIterator[Delta | Whole]:
    """Deltas of the text, then the whole.

    Raises:
        ApiError: it ended in another way.
    """
    undecided, held = Undecided(), list[Logprob]()
    async for event in events:
        match event:
            case Piece():
                held += [logprob(one) for one in event.logprobs or ()]
                if text := undecided.feed(event.text) if may_call else event.text:
                    yield Delta(text, held)
                    held = []
            case Done():
                whole = _whole(event)
                if rest := _rest(whole.said, undecided.given) if may_call else "":
                    yield Delta(rest, held)
                yield whole
            case Failed():
                raise failure(event)


async def collected(service: Service, exchange: Exchange, request: Request) -> tuple[Whole, list[Logprob]]:
    """The whole reply, for a client that waits for it.

    Raises:
        ApiError: there is none.
    """
    worth = list[Logprob]()
    async with _cancelled_without(request, service, exchange):
        async for part in written(exchange.events(), may_call=False):
            if isinstance(part, Whole):
                return part, worth
            worth += part.logprobs
    raise ApiError("The reply ended without a word; the daemon's log says why.", 500)


async def begun(service: Service, exchange: Exchange, request: Request) -> AsyncIterator[Event]:
    """The events of an exchange from its first word on, or from `HOLD_S` on.

    Raises:
        ApiError: it failed before that.
    """
    events = exchange.events()
    first = asyncio.ensure_future(_first(events))
    async with _cancelled_without(request, service, exchange):
        await asyncio.wait([first], timeout=HOLD_S)
    if first.done() and isinstance(event := first.result(), Failed):
        raise failure(event)
    return _from(first, events)


@asynccontextmanager
async def _cancelled_without(request: Request, service: Service, exchange: Exchange) -> AsyncIterator[None]:
    """While this lasts, a client that goes away takes its request with it."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        await service.lane.cancel(exchange)

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _first(events: AsyncIterator[Event]) -> Event | None:
    async for event in events:
        if isinstance(event, Piece | Done | Failed):
            return event
    return None


async def _from(first: asyncio.Future[Event | None], events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    if (event := await first) is not None:
        yield event
    async for event in events:
        yield event


def _whole(done: Done) -> Whole:
    if done.finish == "cancelled":
        raise ApiError(
            f"The reply was stopped before its end; what was written is kept in {done.conversation!r}.",
            503,
            code="stopped",
        )
    if done.written is None:
        return Whole(done, done.text, [])
    return Whole(done, done.written.text, done.written.calls)


def _rest(said: str, given: str) -> str:
    """What of a text was not shown yet; white space around it is cut off where there are calls."""
    shown = given.lstrip()
    if said.startswith(given):
        return said.removeprefix(given)
    return said.removeprefix(shown) if said.startswith(shown) else ""
