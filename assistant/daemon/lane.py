"""The one lane to the worker: jobs run one at a time, in the order of `assistant.daemon.order`.

A bounded number may wait, each hears its position. A job is one reply: between two of them the lane may go to another.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog

from assistant.daemon.order import Order, Place, Priority
from assistant.errors import AssistantError, DaemonError
from assistant.protocol import Event, Queued

STOPPING = "The daemon is stopping; try again in a moment."

log = structlog.get_logger("lane")


class LaneFull(AssistantError):
    """As many requests as allowed are waiting already."""


class Job(ABC):
    """One request on its way: the lane runs it, its client reads `events`, anyone may `cancel` it."""

    def __init__(self, conversation_id: str, priority: Priority, arrived: float) -> None:
        """`arrived`: when the program that this belongs to began, in seconds since 1970."""
        self.conversation_id = conversation_id
        self.keep_alive: float | None = None
        """Seconds that the model should stay loaded afterwards; None: as the settings say."""
        self.place = Place(priority, arrived, time.monotonic())
        self.cancelled = asyncio.Event()
        self.ended = asyncio.Event()
        self._told: int | None = None
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def emit(self, event: Event) -> None:
        """Tell the client. Pieces of one reply are bounded by its token limit, so nothing blocks here."""
        self._events.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        """What happens to this job, until it has ended."""
        while (event := await self._events.get()) is not None:
            yield event

    def tell_position(self, position: int) -> None:
        """Say how many are in front, itself included, when that is news."""
        if position != self._told:
            self._told = position
            self.emit(Queued(position=position))

    def end(self) -> None:
        """Close the stream of events."""
        self.ended.set()
        self._events.put_nowait(None)

    @abstractmethod
    async def run(self) -> None:
        """Do the work; ends early once `cancelled` is set. Reports its own errors as events."""

    @abstractmethod
    async def abandon(self) -> None:
        """Cancelled before it ran: leave everything in a proper state and say so."""


class Lane:
    """A queue of jobs with one place to run."""

    def __init__(
        self,
        limit: int,
        is_resident: Callable[[str], bool] = lambda _: False,
        ended: Callable[[Job], None] = lambda _: None,
    ) -> None:
        """`is_resident`: whether the working set of a conversation is on the device; `ended` hears of every job."""
        self._limit = limit
        self._ended = ended
        self._is_resident = is_resident
        self._admitted = 0
        self._waiting: list[Job] = []
        self._order = Order()
        self._running: Job | None = None
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many jobs wait for their turn."""
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether nothing more is admitted."""
        return self._closed

    @property
    def pending(self) -> int:
        """How many jobs run or wait."""
        return len(self._waiting) + (self._running is not None)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self.pending == 0

    @contextmanager
    def admit(self, *, goes_on: bool = False) -> Iterator[None]:
        """A place for a job that is made within, for `submit`; given back when that fails.

        `goes_on`: a program that was admitted with its first step asks for its next one; it always gets a place.

        Raises:
            LaneFull: the lane is full.
            DaemonError: the daemon is stopping.
        """
        if self._closed:
            raise DaemonError(STOPPING)
        if self._admitted > self._limit and not goes_on:
            raise LaneFull(
                f"{self._limit} requests are waiting already; nothing was stored, try again when one has ended."
            )
        self._admitted += 1
        try:
            yield
        except BaseException:
            self._admitted -= 1
            raise

    def submit(self, job: Job) -> None:
        """Put a job with a reserved place into the line."""
        alone = self.idle
        self._waiting.append(job)
        if not alone:
            self._tell_positions()
        self._wake.set()

    async def serve(self) -> None:
        """Run jobs for ever."""
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            self._running = self._waiting.pop(self._order.next(self._places(), time.monotonic()))
            self._tell_positions()
            try:
                await self._running.run()
            except Exception:
                log.exception("job failed")
            finally:
                self._leave(self._running)
                self._running = None

    async def cancel(self, job: Job) -> None:
        """Ask a running job to end; take a waiting one out at once."""
        job.cancelled.set()
        if job in self._waiting:
            self._waiting.remove(job)
            self._tell_positions()
            try:
                await job.abandon()
            finally:
                self._leave(job)

    async def cancel_all(self, conversation_id: str | None = None) -> bool:
        """Cancel the jobs of one conversation, or all, and wait for their end; whether there were any."""
        jobs = [job for job in (self._running, *self._waiting) if job is not None]
        jobs = [job for job in jobs if conversation_id in (None, job.conversation_id)]
        for job in reversed(jobs):
            await self.cancel(job)
        for job in jobs:
            await job.ended.wait()
        return bool(jobs)

    def close(self) -> None:
        """Admit nothing more."""
        self._closed = True

    def tell(self, event: Event) -> None:
        """Tell the clients of all jobs."""
        for job in (self._running, *self._waiting):
            if job is not None:
                job.emit(event)

    def _leave(self, job: Job) -> None:
        self._admitted -= 1
        job.end()
        self._ended(job)

    def _tell_positions(self) -> None:
        positions = self._order.positions(self._places(), time.monotonic())
        for job, position in zip(self._waiting, positions, strict=True):
            job.tell_position(position)

    def _places(self) -> list[Place]:
        return [replace(job.place, resident=self._is_resident(job.conversation_id)) for job in self._waiting]
