"""The way of one request: history, then the worker, then history again; what happens goes out as events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from assistant.daemon.failures import broken
from assistant.daemon.holding import Holding
from assistant.daemon.lane import Job
from assistant.daemon.order import Priority
from assistant.daemon.records import Records
from assistant.daemon.worker import Worker, WorkerDied
from assistant.errors import AssistantError, Exit
from assistant.history import History
from assistant.history.links import of_reply
from assistant.orders import ModelSpec, Run, WorkerDone, WorkerEvent
from assistant.protocol import (
    Accepted,
    Calling,
    Done,
    Event,
    Evicted,
    Failed,
    Loading,
    Notice,
    Piece,
    Prefill,
    Resumed,
    Sampling,
    Switched,
    TurnState,
)

CHECKPOINT_S = 0.25
"""Least time between two check-points of a reply."""

PATIENCE_S = 10.0
"""How long a worker may take to end a cancelled request before it is ended itself."""

Watch = Callable[[str, float, Event], None]
"""Sees every event of a request: the model's id, when the request came (`time.monotonic`), the event."""

log = structlog.get_logger("turns")


class Checkpoints:
    """Stores a growing reply in the background: its first piece at once, then at most every CHECKPOINT_S."""

    def __init__(self, records: Records, reply_id: int, text: Callable[[], str]) -> None:
        self._records = records
        self._reply_id = reply_id
        self._text = text
        self._grown = asyncio.Event()
        self._task = asyncio.create_task(self._store())

    def note(self) -> None:
        """The text has grown."""
        self._grown.set()

    async def stop(self) -> None:
        """Store nothing more; what was handed to the history before is written before anything that follows."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _store(self) -> None:
        try:
            while await self._grown.wait():
                self._grown.clear()
                await self._records.run(History.checkpoint, self._reply_id, self._text())
                await asyncio.sleep(CHECKPOINT_S)
        except AssistantError as error:
            log.error("check-point failed", reply=self._reply_id, error=str(error))


@dataclass(frozen=True, slots=True)
class Errand:
    """What a turn is asked to do, and where it stands in the lane.

    A reply to be written (`sampling`), or turns to be read only (an import). `arrived`: when its program began, in
    seconds since 1970. `link`: the chained id of the message that is answered, of clients that bring all messages with
    every request; such a conversation may share what is stored of others. `keep_alive`: seconds that it asks the model
    to stay; `detached`: it goes on without its client.
    """

    accepted: Accepted
    conversation_id: str
    spec: ModelSpec
    sampling: Sampling | None
    calling: Calling | None = None
    priority: Priority = Priority.CHAT
    arrived: float = field(default_factory=time.time)
    link: str | None = None
    logprobs: int | None = None
    keep_alive: float | None = None
    detached: bool = False


class Exchange(Job):
    """One request on its way."""

    def __init__(
        self,
        records: Records,
        worker: Worker,
        holding: Holding,
        errand: Errand,
        watch: Watch,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(errand.conversation_id, errand.priority, errand.arrived)
        self.keep_alive = errand.keep_alive
        self.detached = errand.detached
        self._watch = watch
        self._records = records
        self._worker = worker
        self._holding = holding
        self._errand = errand
        self._accepted = errand.accepted
        self._spec = errand.spec
        self._patience_s = patience_s
        self._run_id = secrets.token_hex(8)
        self._pieces: list[str] = []
        self._heard = False
        self._queued_s = 0.0
        self.emit(errand.accepted)
        holding.wanted(errand.conversation_id)

    def emit(self, event: Event) -> None:
        """Tell the client, and who counts."""
        self._watch(self._spec.id, self.place.since, event)
        super().emit(event)

    async def run(self) -> None:
        """Run on the worker. Every way it can end leaves the reply done or interrupted."""
        self._queued_s = time.monotonic() - self.place.since
        if self.cancelled.is_set():
            await self.abandon()
            return
        watch = asyncio.create_task(self._end_when_cancelled())
        checkpoints = Checkpoints(self._records, self._accepted.reply_id or 0, self._text)
        try:
            await self._converse(checkpoints)
        except WorkerDied as died:
            log.warning("worker died", conversation=self.conversation_id, how=str(died))
            await self._fail(self._died(died))
        except AssistantError as error:
            await self._fail(Failed(message=str(error), exit_code=error.exit_code))
        except Exception as error:
            log.exception("turn failed", conversation=self.conversation_id)
            await self._fail(Failed(message=broken(error)))
        finally:
            await checkpoints.stop()
            watch.cancel()

    async def abandon(self) -> None:
        """Stopped before the model began."""
        await self._fail(Failed(message="Stopped before the model began. Your text is kept.", exit_code=Exit.SIGINT))

    async def _converse(self, checkpoints: Checkpoints) -> None:
        turns = await self._records.run(History.read, self.conversation_id, self._spec.id, self._accepted.reply_id)
        request = Run(
            id=self._run_id,
            spec=self._spec,
            conversation=self.conversation_id,
            turns=turns,
            reply_id=self._accepted.reply_id,
            sampling=self._errand.sampling,
            origins=await self._records.run(History.origins, self.conversation_id),
            calling=self._errand.calling,
            pins=self._holding.ranking(self.conversation_id),
            share=self._errand.link is not None,
            logprobs=self._errand.logprobs,
        )
        try:
            await self._relay(request, checkpoints)
        except WorkerDied:
            if self._heard or self.cancelled.is_set():
                raise
            await self._relay(request, checkpoints)  # it had died while idle: a new one is not a second try

    async def _relay(self, request: Run, checkpoints: Checkpoints) -> None:
        async for event in self._worker.run(request, self.cancelled):
            self._heard = True
            if isinstance(event, Piece):
                self._pieces.append(event.text)
                checkpoints.note()
            await self._pass_on(event, checkpoints)

    async def _pass_on(self, event: WorkerEvent, checkpoints: Checkpoints) -> None:
        match event:
            case WorkerDone():
                await checkpoints.stop()
                await self._finish(event)
            case Failed():
                await self._fail(event)
            case Loading() | Resumed() | Notice() | Switched() | Evicted() | Prefill() | Piece():
                self.emit(event)
            case _:
                log.warning("unexpected event", kind=event.event)

    async def _finish(self, done: WorkerDone) -> None:
        reply_id, after = self._accepted.reply_id, self._errand.link
        state: TurnState = "interrupted" if done.finish == "cancelled" and reply_id else "done"
        done.usage.queued_s = round(self._queued_s, 4)
        await self._records.run(
            History.finish,
            self.conversation_id,
            self._accepted.turn_id if reply_id is None else reply_id,
            text=None if reply_id is None else done.text,
            state=state,
            usage=done.usage,
            token_ids=done.token_ids,
            model=self._spec.id,
            calls=done.written.calls if done.written and state == "done" else (),
            link=of_reply(after, done.text, done.written) if after and state == "done" else None,
        )
        self._holding.ended(self.conversation_id, self._errand.arrived, done)
        self.emit(
            Done(
                conversation=self._accepted.conversation,
                reply_id=reply_id,
                text=done.text,
                finish=done.finish,
                model=self._spec.id,
                usage=done.usage,
                written=done.written,
            )
        )

    async def _fail(self, failed: Failed) -> None:
        """Keep what was written as interrupted, then say why it ended."""
        try:
            if self._accepted.reply_id is not None:
                await self._records.run(
                    History.finish,
                    self.conversation_id,
                    self._accepted.reply_id,
                    text=self._text(),
                    state="interrupted",
                )
        except AssistantError as error:
            log.error("interrupted reply not stored", conversation=self.conversation_id, error=str(error))
        self.emit(failed)

    async def _end_when_cancelled(self) -> None:
        await self.cancelled.wait()
        await self._worker.cancel(self._run_id)
        await asyncio.sleep(self._patience_s)
        log.warning("worker did not stop", conversation=self.conversation_id)
        await self._worker.kill()

    def _died(self, died: WorkerDied) -> Failed:
        if self.cancelled.is_set():
            return Failed(message="Stopped. What was written is kept as interrupted.", exit_code=Exit.SIGINT)
        kept = "What was written is kept as interrupted" if self._accepted.reply_id else "The imported text is kept"
        return Failed(message=f"The worker {died}. {kept}; the next message starts a new worker.")

    def _text(self) -> str:
        return "".join(self._pieces)
