"""Server-sent events: the response to a client that reads a reply while it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

from assistant.daemon.lane import Lane
from assistant.daemon.turns import Turn

PING_S = 15
"""Seconds between two comments that keep a stream open while nothing happens."""


def stream(lane: Lane, turn: Turn, events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    """The response; a client that goes away cancels the turn, unless it was asked to go on."""

    async def gone(_message: object) -> None:
        if not turn.detached:
            await lane.cancel(turn)

    return EventSourceResponse(events, ping=PING_S, client_close_handler_callable=gone)
