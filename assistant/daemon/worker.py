"""The child process that owns the device: started when needed, spoken to in JSON lines, replaced when it died."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import structlog
from pydantic import ValidationError

from assistant.daemon.log import open_raw
from assistant.daemon.suspend import Suspension
from assistant.errors import AssistantError
from assistant.orders import (
    Aside,
    Cancel,
    ModelSpec,
    Quit,
    Request,
    Run,
    Status,
    WorkerDone,
    WorkerEvent,
    WorkerLine,
    WorkerStatus,
)
from assistant.protocol import DEVICE_LOST, Failed, Notice, WorkerState, dump
from assistant.reports import MemorySplit

COMMAND = (sys.executable, "-P", "-m", "assistant.worker")
LONGEST_LINE = 256 * 1024 * 1024
"""Token ids of a whole conversation come back in one line."""
STATUS_S = 0.5
FLUSH_S = 10.0
"""How long a worker that was asked to end may write what waits to be written."""

Inbox = asyncio.Queue[WorkerEvent | None]
log = structlog.get_logger("worker")


class WorkerDied(Exception):
    """The worker process ended, or spoke nonsense and was ended, while a request waited for it."""


class Worker:
    """At most one child at a time; `run` starts it when there is none."""

    def __init__(self, log_path: Path, command: Sequence[str] = COMMAND, suspension: Suspension | None = None) -> None:
        self.starts = 0
        self.deaths = Counter[Literal["device", "crash"]]()
        """Children that were started, and those that ended without being asked to."""
        self.on_end: Callable[[], None] = lambda: None
        """Called whenever a child has ended."""
        self.model: str | None = None
        self.spec: ModelSpec | None = None
        self.memory = MemorySplit()
        self.failure: str | None = None
        """How the last worker ended, when that was not on purpose and none has finished anything since."""
        self._command = command
        self._log_path = log_path
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._inboxes: dict[str, Inbox] = {}
        self._running: str | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._heard = False
        self._end = ""
        self._dismissed = False
        self._untold: str | None = None
        self._suspension = suspension or Suspension()

    @property
    def pid(self) -> int | None:
        """Process id of the living child."""
        return self._process.pid if self._process else None

    @property
    def lives(self) -> bool:
        """Whether there is a child, or is about to be one."""
        return self._process is not None or self._starting is not None

    @property
    def state(self) -> WorkerState:
        """None, or a child that starts, waits or works."""
        if self._process is None:
            return "none"
        if not self._heard:
            return "starting"
        return "ready" if self._running is None else "busy"

    async def prepare(self) -> None:
        """Start a child ahead of its first request, when there is none; one that cannot be is for that to report."""
        with suppress(WorkerDied):
            await self._started()

    async def run(self, request: Run, cancelled: asyncio.Event) -> AsyncIterator[WorkerEvent]:
        """Everything the worker says about `request`, up to WorkerDone or Failed.

        A `cancel` from before the request was sent would be lost, so `cancelled` is looked at again after it. A
        worker whose device may have been lost while nobody looked is replaced, and that is said first.

        Raises:
            WorkerDied: it ended before it had answered.
        """
        self._running = request.id
        try:
            await self._renew()
            inbox = self._inboxes[request.id] = asyncio.Queue()
            process = await self._started()
            if self._untold is not None:
                notice, self._untold = self._untold, None
                yield Notice(text=notice)
            await self._send(process, request)
            if cancelled.is_set():
                await self.cancel(request.id)
            while not isinstance(event := await self._next(inbox), WorkerDone | Failed):
                yield event
            if isinstance(event, WorkerDone):
                self.model, self.spec, self.memory = request.spec.id, request.spec, event.memory
                self.failure = None
            yield event
        finally:
            self._inboxes.pop(request.id, None)
            self._running = None

    async def cancel(self, request_id: str) -> None:
        """Ask the worker to end a request early."""
        if self._process is not None:
            with suppress(WorkerDied):
                await self._send(self._process, Cancel(id=request_id))

    @property
    def _aware(self) -> Process | None:
        """The child, if it can hold anything: it has spoken, or was given something to do."""
        return self._process if self._heard or self._running is not None else None

    async def refresh(self, wait_s: float = STATUS_S) -> WorkerStatus | None:
        """Ask a living worker where its memory is now; one that does not answer in time leaves the last figures."""
        if self._process is None or self.state == "starting":
            return None
        with suppress(WorkerDied, TimeoutError):
            async with asyncio.timeout(wait_s):
                answer = await self.aside(Status(id=f"status-{secrets.token_hex(4)}"))
                if isinstance(answer, WorkerStatus):
                    self.model, self.memory = answer.model, answer.memory
                    return answer
        return None

    async def aside(self, request: Aside, *, start: bool = False) -> WorkerEvent:
        """What a living worker answers beside the reply that it may be writing; `start` one when there is none.

        Raises:
            WorkerDied: there is none, or it ended before it had answered.
        """
        process = await self._started() if start else self._aware
        if process is None:
            raise WorkerDied("is not running")
        inbox = self._inboxes[request.id] = asyncio.Queue()
        try:
            await self._send(process, request)
            return await self._next(inbox)
        finally:
            del self._inboxes[request.id]

    async def kill(self) -> None:
        """End the child now."""
        if self._process is not None and self._reader is not None:
            await _end_now(self._process, self._reader)

    async def stop(self) -> None:
        """Let an idle child write what it holds and leave, for FLUSH_S at most; then it is ended.

        One that has not said anything yet holds nothing, and does not hear either: it is ended at once.
        """
        if self._starting is not None:
            await asyncio.wait([self._starting])
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return
        self._dismissed = True
        if not self._heard:
            await _end_now(process, reader)
            return
        with suppress(WorkerDied):
            await self._send(process, Quit())
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await asyncio.shield(reader)
        if not reader.done():  # a request that came meanwhile may have started another child: that one stays
            log.warning("worker did not leave", pid=process.pid)
            await _end_now(process, reader)

    async def _renew(self) -> None:
        """A GPU that slept may have lost its memory; the worker finds out too late, so it is replaced."""
        slept = self._suspension.happened()
        if slept and self._process is not None and self.memory.device not in ("none", "cpu"):
            await self.stop()
            self._untold = "The machine was asleep: the model is loaded anew, its memory comes back from disk."

    async def _started(self) -> Process:
        """The child. Its start goes on when who waits for it is cancelled: asyncio waits for ever for one cut short."""
        if self._process is not None:
            return self._process
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._has_started)
        return await asyncio.shield(self._starting)

    def _has_started(self, start: asyncio.Task[Process]) -> None:
        self._starting = None
        if not start.cancelled():
            start.exception()

    async def _start(self) -> Process:
        try:
            self._process = process = await self._spawned()
        except (OSError, AssistantError) as error:
            raise WorkerDied(f"could not be started: {error}") from error
        self._heard = self._dismissed = False
        self.starts += 1
        self._reader = asyncio.create_task(self._read(process))
        log.info("started", pid=process.pid)
        return process

    async def _spawned(self) -> Process:
        """A child in a session of its own: Ctrl+C in the terminal must not hit it before the daemon has drained."""
        stderr = open_raw(self._log_path)
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=stderr, limit=LONGEST_LINE, start_new_session=True
            )
        finally:
            os.close(stderr)

    async def _send(self, process: Process, message: Request) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(dump(message).encode() + b"\n")
            await process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            await self.kill()
            raise WorkerDied(self._end) from error

    async def _next(self, inbox: Inbox) -> WorkerEvent:
        event = await inbox.get()
        if event is None:
            raise WorkerDied(self._end)
        return event

    async def _read(self, process: Process) -> None:
        """Hand out the child's lines until it ends; then tell everyone who still waits."""
        self._end = ""
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                self._heard = True
                answer = WorkerLine.model_validate_json(line)
                if (inbox := self._inboxes.get(answer.id)) is not None:
                    inbox.put_nowait(answer.body)
        except (ValidationError, ValueError):
            self._end = "said something that is not in the protocol, and was ended"
            _signal(process)
        code = await _ended(process)
        self._end = self._end or _describe(code)
        self.failure = self._end if code and not self._dismissed else self.failure
        log.info("ended", pid=process.pid, code=code)
        self._count_death(code)
        self._process, self.model, self.spec, self.memory = None, None, None, MemorySplit()
        self.on_end()
        for inbox in self._inboxes.values():
            inbox.put_nowait(None)

    def _count_death(self, code: int) -> None:
        if self._dismissed:
            return
        self.deaths["device" if code == DEVICE_LOST else "crash"] += 1
        if code == DEVICE_LOST and self._running is None:
            self._untold = f"The worker {self._end} while it was idle. Another one was started."


async def _end_now(process: Process, reader: asyncio.Task[None]) -> None:
    """End a child and wait until everyone was told."""
    _signal(process)
    await asyncio.shield(reader)


async def _ended(process: Process) -> int:
    """The exit code; a child that closed its output and lives on is of no use and is ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            return await process.wait()
    _signal(process)
    return await process.wait()


def _signal(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


def _describe(code: int) -> str:
    if code == DEVICE_LOST:
        return "lost its device (the driver reported an error that only a new process gets over)"
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + (
        " (by hand, or because the machine ran out of memory)" if name == "SIGKILL" else ""
    )
