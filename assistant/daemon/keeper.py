"""The worker of an idle daemon is started ahead and let go of (keep_alive); the daemon itself ends (exit_after)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.daemon.lane import STOPPING, Job, Lane
from assistant.daemon.worker import Worker
from assistant.errors import DaemonError
from assistant.reports import Unloaded

Clock = Callable[[], float]
PROBES = frozenset({"/health", "/ready", "/version", "/metrics"})
"""Paths that ask whether the daemon is there; they keep nobody awake."""

log = structlog.get_logger("keeper")


class Stay:
    """How long the model stays: since the last reply as that one asked or the setting says, and as long as any asked.

    What a request asks for is a promise: a later request cannot shorten it. The setting is none: it speaks for those
    that ask for nothing.
    """

    def __init__(self, default_s: float, clock: Clock) -> None:
        self._default = default_s
        self._clock = clock
        self._promised = self._until = -math.inf

    def ended(self, asked_s: float | None) -> None:
        """A request has ended; `asked_s` is its own keep_alive in seconds, None: it had none."""
        now = self._clock()
        if asked_s is not None:
            self._promised = max(self._promised, now + asked_s)
        self._until = max(self._promised, now + (self._default if asked_s is None else asked_s))

    def drop(self) -> None:
        """The worker has ended, or somebody wants it to: nothing is promised any more."""
        self._promised = self._until = -math.inf

    def left(self) -> float:
        """Seconds until the model may go; at most 0: now."""
        return self._until - self._clock()

    @property
    def by_default(self) -> bool:
        """Whether a worker stays at all when nobody asks it to."""
        return self._default > 0


class Keeper:
    """Starts a worker before anybody asks it anything, and ends one that nobody has asked for long enough."""

    def __init__(self, worker: Worker, lane: Lane, keep_alive_s: float, clock: Clock = time.monotonic) -> None:
        self.changed = asyncio.Event()
        """Set whenever somebody should look at the clock again."""
        self._worker = worker
        self._lane = lane
        self._stay = Stay(keep_alive_s, clock)
        self._leaves = False

    def ended(self, job: Job) -> None:
        """A job of the lane has ended."""
        self.used(job.keep_alive)

    def used(self, keep_alive: float | None = None) -> None:
        """The worker has done something for a client, who asked it to stay so many seconds (None: the setting's)."""
        self._stay.ended(keep_alive)
        self.changed.set()

    def gone(self) -> None:
        """The worker has ended, however it did."""
        self._stay.drop()
        self._leaves = False

    def left(self) -> float | None:
        """Seconds until the worker is ended; None while there is none, it is needed, or it stays for ever."""
        if self._worker.pid is None or not self._lane.idle:
            return None
        left = 0.0 if self._leaves else self._stay.left()
        return None if math.isinf(left) and left > 0 else max(0.0, left)

    @property
    def for_ever(self) -> bool:
        """Whether the worker stays until somebody ends it."""
        return self._stay.left() == math.inf and not self._leaves

    async def prepare(self) -> None:
        """Start a worker, without a model, ahead of a request that is likely; none where workers do not stay.

        Raises:
            DaemonError: the daemon is stopping.
        """
        if self._lane.closed:
            raise DaemonError(STOPPING)
        if self._worker.pid is None and self._stay.by_default:
            await self._worker.prepare()
            if self._worker.pid is not None:
                self.used()

    async def unload(self) -> Unloaded:
        """End the worker when nothing is on its way to it, else as soon as that has ended."""
        self._stay.drop()
        self._leaves = self._worker.lives
        if self._leaves and self._lane.idle:
            await self._end()
        return Unloaded(unloaded=not self._worker.lives, pending=self._lane.pending)

    async def serve(self) -> None:
        """End the worker whenever its time has come, for ever."""
        while True:
            await due(self.left, self.changed)
            await self._end()

    async def _end(self) -> None:
        log.info("unloading", model=self._worker.model)
        await self._worker.stop()


class Attendance:
    """Who asks the daemon anything: requests that are open, and when the last one ended."""

    def __init__(self, exit_after_s: float, clock: Clock = time.monotonic) -> None:
        self.changed = asyncio.Event()
        self._after = exit_after_s
        self._clock = clock
        self._open = 0
        self._since = clock()

    def came(self) -> None:
        """A request begins."""
        self._open += 1

    def left_again(self) -> None:
        """A request has ended."""
        self._open -= 1
        self._since = self._clock()
        self.changed.set()

    def left(self) -> float | None:
        """Seconds until the daemon ends if nobody comes; None: it does not."""
        if self._open or math.isinf(self._after):
            return None
        return max(0.0, self._since + self._after - self._clock())


class Doorkeeper:
    """Middleware that keeps the attendance."""

    def __init__(self, app: ASGIApp, attendance: Attendance) -> None:
        self._app = app
        self._attendance = attendance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        self._attendance.came()
        try:
            await self._app(scope, receive, send)
        finally:
            self._attendance.left_again()


async def due(left: Callable[[], float | None], changed: asyncio.Event) -> None:
    """Wait until `left` has come down to 0; it is asked again whenever `changed` is set."""
    while (seconds := left()) is None or seconds > 0:
        changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            continue
