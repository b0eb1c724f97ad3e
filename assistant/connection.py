"""One connection to the daemon over the Unix socket: requests, streams of events, and failures as our exceptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self, TypeVar

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from assistant import __version__
from assistant.daemon import spawn
from assistant.daemon.probe import listener
from assistant.errors import AssistantError, BudgetError, DaemonError, Exit, ModelError, UsageError, VersionSkew
from assistant.places import Places, find_places
from assistant.protocol import EVENT, PROTOCOL, Done, Event, Failed, Version

T = TypeVar("T")

SILENCE_S = 60.0
"""The daemon pings every 15 s: a stream that is silent for longer than this is dead."""
RESTART_S = 60.0
"""How long a daemon of another version may drain: its settings are not ours to know."""
LARGEST_EVENT = 64 * 1024 * 1024

_KINDS: dict[int, type[AssistantError]] = {
    Exit.USAGE: UsageError,
    Exit.BUDGET: BudgetError,
    Exit.MODEL: ModelError,
    Exit.DAEMON: DaemonError,
}


class _Gone(DaemonError):
    """The connection broke before an answer came."""


class Connection:
    """Made by `connect`; an async context manager."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    @classmethod
    async def connect(cls, places: Places | None = None, start: bool = True) -> Self:
        """Connect, after starting a daemon when none runs (and `start`), and check that it speaks our protocol.

        Raises:
            DaemonError: none runs and none could be started.
            VersionSkew: one runs, of another version (`restart` replaces it).
        """
        places = places or find_places()
        try:
            return await cls._open(places, start)
        except _Gone:
            return await cls._open(places, start)  # it died between answering the probe and being asked

    @classmethod
    async def _open(cls, places: Places, start: bool) -> Self:
        if await asyncio.to_thread(listener, places.socket) is None:
            if not start:
                raise DaemonError("No daemon is running. Start one with: assistant daemon start")
            await asyncio.to_thread(spawn.start, places)
        transport = httpx2.AsyncHTTPTransport(uds=str(places.socket))
        timeout = httpx2.Timeout(SILENCE_S, connect=5.0)
        client = cls(httpx2.AsyncClient(transport=transport, base_url="http://daemon", timeout=timeout))
        try:
            await client._greet()
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. A stream that is still open is cancelled by the daemon."""
        await self._http.aclose()

    async def _greet(self) -> None:
        version = await self._get("/version", Version)
        if version.protocol != PROTOCOL:
            raise VersionSkew(_skew(version))

    async def _get(self, path: str, kind: type[T], **params: Any) -> T:
        given = {name: value for name, value in params.items() if value is not None}
        answer = await self._send("GET", path, params=given)
        return TypeAdapter(kind).validate_json(answer.content)

    async def _send(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            answer = await self._http.request(method, path, **content)
        except httpx2.TransportError as error:
            raise _Gone(
                f"The daemon does not answer ({_kind(error)}). Start it with: assistant daemon start"
            ) from error
        _raise_for(answer)
        return answer

    async def _stream(self, path: str, request: BaseModel) -> AsyncGenerator[Event, None]:
        """Events as they come; the last one when the stream has ended, so that nothing is left open behind it."""
        # What the caller left out is left out: the daemon's settings decide it.
        content, last = request.model_dump_json(exclude_unset=True).encode(), None
        headers = {"Content-Type": "application/json"}
        try:
            async with self._http.sse(
                path, method="POST", content=content, headers=headers, max_event_size=LARGEST_EVENT
            ) as source:
                if source.response.is_error:
                    await source.response.aread()
                    _raise_for(source.response)
                async for message in source:
                    event = EVENT.validate_json(message.data)
                    if isinstance(event, Done | Failed):
                        last = event
                    else:
                        yield event
        except httpx2.TransportError as error:
            if last is None:
                raise DaemonError(_lost(_kind(error))) from error
        if last is None:
            raise DaemonError(_lost("the stream ended early"))
        yield last


async def restart() -> int:
    """End the daemon, of whatever version it is, and start one of this program's; its pid.

    Raises:
        DaemonError: it does not end, or none could be started.
    """
    places = find_places()
    await asyncio.to_thread(spawn.stop, places, RESTART_S)
    return await asyncio.to_thread(spawn.start, places)


def _skew(daemon: Version) -> str:
    age = "older" if daemon.protocol < PROTOCOL else "newer"
    return (
        f"The running daemon (version {daemon.version}, protocol {daemon.protocol}, pid {daemon.pid}) is {age} than "
        f"this program (version {__version__}, protocol {PROTOCOL}). Run: assistant daemon restart"
    )


def _raise_for(answer: httpx2.Response) -> None:
    if not answer.is_error:
        return
    try:
        failed = Failed.model_validate_json(answer.content)
    except ValidationError:
        raise DaemonError(f"The daemon answered {answer.status_code}; its log says why.") from None
    raise error_of(failed)


def error_of(failed: Failed) -> AssistantError:
    """The exception for a failure that came over the wire."""
    return _KINDS.get(failed.exit_code, AssistantError)(failed.message, exit_code=Exit(failed.exit_code))


def _lost(how: str) -> str:
    return f"The daemon died ({how}). What was written so far is kept in the history as interrupted."


def _kind(error: Exception) -> str:
    return str(error) or type(error).__name__
