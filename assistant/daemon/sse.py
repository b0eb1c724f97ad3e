"""Server-sent events: the response to a client that reads a reply while it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

from assistant.daemon.exchange import Exchange
from assistant.daemon.lane import Lane

PING_S = 15
"""Seconds between two comments that keep a stream open while nothing happens."""


def stream(lane: Lane, exchange: Exchange, events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    """The response; a client that goes away cancels the exchange, unless it was asked to go on."""

    async def gone(_message: object) -> None:
        if not exchange.detached:
            await lane.cancel(exchange)

    return EventSourceResponse(events, ping=PING_S, client_close_handler_callable=gone)
