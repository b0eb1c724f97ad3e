"""One connection before any route sees it: who it is, how many there are, how long it may take, what it leaves unread.

Only what happens below HTTP is decided here; what a request says is judged in `guard.py`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any, ClassVar, cast

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from assistant.daemon.failures import Failures, as_json, failed
from assistant.daemon.limits import Limits
from assistant.daemon.probe import peer
from assistant.errors import Exit


class _Alarm:
    """Does something once so many seconds after `set`, unless `clear` comes first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._action = action
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._action)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Gate(H11Protocol):
    """uvicorn's protocol with our limits; `gate` makes one with others."""

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: Any) -> None:
        """Look at the peer's uid before a byte is parsed, then make room."""
        super().connection_made(transport)
        end: socket.socket = transport.get_extra_info("socket")
        self._private = end.family == socket.AF_UNIX
        self._since = time.monotonic()
        self._late = _Alarm(self.loop, self.limits.request_s, self._give_up)
        self._unread = _Alarm(self.loop, self.limits.unread_s, transport.abort)
        if self._private and peer(end).uid != os.geteuid():
            transport.abort()
            return
        transport.set_write_buffer_limits(high=self.limits.unread)
        self._make_room()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._late.clear()
        self._unread.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A request that has begun has to be complete in time."""
        super().data_received(data)
        self._expect()

    def on_response_complete(self) -> None:
        """The next request of the same connection has a time of its own, from its first byte."""
        super().on_response_complete()
        self._since = time.monotonic()
        self._late.clear()
        if self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]:
            self._expect()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write: it has `unread_s` to catch up."""
        super().pause_writing()
        self._unread.set()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._unread.clear()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has a header that never ends, like every other failure."""
        long = len(self.conn.trailing_data[0]) > self.limits.header
        if long:
            self._refuse(431, f"The header of a request may hold at most {self.limits.header // 1024} KiB.")
        else:
            self._refuse(400, msg)

    @property
    def _is_open(self) -> bool:
        return not self.transport.is_closing()

    @property
    def _waits(self) -> bool:
        """Whether no request has come that anybody works on."""
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> None:
        """Close the connection that has waited longest for its request; if none waits, this one is turned away."""
        all_of_them = cast("set[Gate]", self.connections)
        others = [one for one in all_of_them if one._private == self._private and one is not self and one._is_open]
        if len(others) < self.limits.connections:
            return
        waiting = [one for one in others if one._waits]
        if waiting:
            min(waiting, key=lambda one: one._since).transport.abort()
        else:
            self.app = cast(Any, _full)

    def _expect(self) -> None:
        """Give what has begun a time to be complete: a request, or a connection without one."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY) or not self._is_open:
            self._late.clear()
        else:
            self._late.set()

    def _give_up(self) -> None:
        self._refuse(408, f"The request was not complete within {self.limits.request_s:g} s.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer without any route, where nothing was answered yet, and close."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        if self.cycle is not None:  # a route that waits for the body hears that its client is gone
            self.cycle.disconnected = True
        content = as_json(failed(status, message, Exit.USAGE))
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), ("Connection", "close")]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def gate(limits: Limits) -> type[Gate]:
    """The protocol with these limits."""
    return type("Gate", (Gate,), {"limits": limits})


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    """What every request of a connection too many is told."""
    said = "Too many connections are open; close some, or try again in a moment."
    await Failures().answer(scope["path"], 503, said, Exit.FAILED, {"Connection": "close"})(scope, receive, send)
