"""What the daemon does for its clients, without HTTP: accept turns, stop them, status, remove conversations."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from datetime import UTC, datetime, timedelta

from assistant import __version__
from assistant.address import Address
from assistant.daemon.engine import Engines
from assistant.daemon.exchange import Errand, Exchange
from assistant.daemon.gauges import Facts
from assistant.daemon.holding import Holding
from assistant.daemon.keeper import Attendance, Keeper
from assistant.daemon.lane import Job, Lane
from assistant.daemon.metrics import Metrics
from assistant.daemon.order import Priority
from assistant.daemon.records import Records
from assistant.daemon.shelf import Shelf
from assistant.daemon.titles import Titles
from assistant.daemon.uses import named_uses
from assistant.daemon.worker import Worker, WorkerDied
from assistant.duration import parse_duration
from assistant.errors import AssistantError
from assistant.history import History
from assistant.orders import Embed, ModelSpec, WorkerEvent
from assistant.protocol import PROTOCOL, Accepted, AskRequest, Engine, Episodes, ImportRequest, KeepAlive, Sampling
from assistant.reports import DaemonStatus, LoadedModel, MemoryReport, MemorySplit, PsReport


class Service:
    """History, lane and worker of one daemon, put together."""

    def __init__(self, records: Records, worker: Worker, engines: Engines, address: Address | None = None) -> None:
        """`address`: where the daemon listens beside its Unix socket."""
        self.records = records
        self.engines = engines
        self.holding = Holding(lambda: worker.memory)
        self.lane = Lane(engines.settings.queue, self.holding.is_resident, self._ended)
        self.keeper = Keeper(worker, self.lane, parse_duration(engines.settings.keep_alive))
        self.attendance = Attendance(parse_duration(engines.settings.exit_after))
        self.metrics = Metrics()
        self.shelf = Shelf(worker, engines.places.kv, engines.disk_limit())
        self.titles = Titles(records, self.lane, engines.places.kv)
        self._worker = worker
        worker.on_end = self._worker_ended
        self._address = address
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()

    async def ask(self, name: str, request: AskRequest) -> Exchange:
        """Commit the user's turn and a pending reply, then put the reply on its way.

        What cannot run (unknown model, full lane, another system prompt) is refused before anything is stored.
        """
        spec = self.spec(request.engine)
        with self.lane.admit():
            begun = await self.records.run(
                History.begin,
                name,
                request.text,
                request.system,
                default_system=self.engines.settings.system,
                replaces=request.replaces,
            )
        accepted = Accepted(conversation=name, turn_id=begun.turn_id, reply_id=begun.reply_id)
        if request.replaces is not None:
            self.holding.let_go(begun.conversation_id)
        errand = Errand(
            accepted,
            begun.conversation_id,
            spec,
            self.sampling(request.sampling),
            keep_alive=seconds(request.keep_alive),
            detached=request.detach,
        )
        return self.submit(errand)

    async def read(self, name: str, request: ImportRequest) -> Exchange:
        """Commit imported turns, then have them read into memory."""
        spec = self.spec(request.engine)
        with self.lane.admit():
            added = await self.records.run(History.add, name, request.turns)
        accepted = Accepted(conversation=name, turn_id=added.last_turn_id, reply_id=None)
        return self.submit(Errand(accepted, added.conversation_id, spec, None, priority=Priority.BATCH))

    def spec(self, asked: Engine) -> ModelSpec:
        """What the worker is to have loaded for a request (`Engines.spec`)."""
        return self.engines.spec(asked, self._worker.spec)

    def sampling(self, asked: Sampling) -> Sampling:
        """The decoding parameters of the settings, where the request leaves them open."""
        return self.engines.settings.sampling().model_copy(update=asked.model_dump(exclude_unset=True))

    def submit(self, errand: Errand) -> Exchange:
        """Put what is committed on its way; the lane has a place for it."""
        exchange = Exchange(self.records, self._worker, self.holding, errand, self.metrics.saw)
        self.lane.submit(exchange)
        self.titles.note(errand.conversation_id)
        return exchange

    async def stop(self, name: str) -> bool:
        """Cancel whatever runs or waits for a conversation; whether anything did."""
        return await self.lane.cancel_all(await self.records.run(History.find, name))

    async def put_away(self, name: str) -> None:
        """Cancel what runs for a conversation, then put it away. Its KV stays: restored, it goes on at once."""
        await self.lane.cancel_all(await self.records.run(History.find, name))
        await self.records.run(History.put_away, name)

    async def remove(self, name: str) -> list[str]:
        """Remove a conversation (or all that were put away under its name) for good."""
        await self._erase(await self.records.run(History.ids, name))
        return [name]

    async def purge(self, before: datetime | None = None) -> list[str]:
        """Remove for good what was put away before a moment (None: longer ago than it is kept); the names."""
        found = await self.records.run(History.put_away_before, before)
        if found:
            await self._erase(list(found))
        return list(found.values())

    async def _erase(self, ids: list[str]) -> None:
        """Cancel what runs for conversations, then delete them: text, ids and everything that is kept of their KV."""
        for one in ids:
            await self.lane.cancel_all(one)
            heirs = await self.records.run(History.heirs, one)
            kept = {fork: tokens for fork, tokens in heirs.items() if fork not in ids}
            await self.shelf.forget(one, kept)  # first: if it fails, the name is still there to try again with
        await self.records.run(History.erase, ids)
        for one in ids:
            if await self.lane.cancel_all(one):  # a message that came in between may have stored KV again
                await self.shelf.forget(one, {})

    async def episodes(self, name: str) -> Episodes:
        """The topics of a conversation, and how its questions were routed."""
        return await self.shelf.explain(await self.records.run(History.find, name))

    async def memory(self) -> MemoryReport:
        """Where every byte lies, by tier and purpose; conversations by their names."""
        kv = await self.shelf.status()
        names = await self.records.run(History.names)
        pins = {pin.program: pin for pin in self.holding.view() if pin.state != "expired"}
        for resident in kv.sets:
            if (pin := pins.get(resident.conversation)) is not None:
                resident.pinned_by, resident.pinned_s = pin.tool, pin.left_s
            resident.conversation = names.get(resident.conversation, resident.conversation)
        kv.stored = named_uses(kv.stored, names, await self.records.run(History.conversations, "", True))
        for tier in (kv.device, kv.ram, kv.disk):
            tier.conversations = {names.get(one, one): size for one, size in tier.conversations.items()}
        return MemoryReport(model=self._worker.model, memory=self._worker.memory, kv=kv)

    async def plan(self, budget: str) -> MemorySplit:
        """What a budget would come to: for the loaded model as it is, else for the one of the settings by its shape.

        Raises:
            BudgetError: it would not hold the model; the text shows the sum.
        """
        if self._worker.state != "starting" and (planned := await self.shelf.plan(budget)) is not None:
            return planned
        return await asyncio.to_thread(self.engines.estimate, budget)

    async def embed(self, texts: list[str]) -> WorkerEvent:
        """Vectors of texts, as the worker answers; it is started when there is none.

        Raises:
            AssistantError: it ended before it had answered.
        """
        try:
            return await self._worker.aside(Embed(id=f"embed-{secrets.token_hex(4)}", texts=texts), start=True)
        except WorkerDied as died:
            raise AssistantError(f"The worker {died}; the next request starts a new one.") from died
        finally:
            self.keeper.used()

    async def ps(self) -> PsReport:
        """What is loaded, and until when; one model at most."""
        if (pid := self._worker.pid) is None:
            return PsReport(models=[], queue=self.lane.waiting)
        report = await self.memory()
        left, state = self.keeper.left(), self._worker.state
        if state == "none":  # it ended while it was asked
            return PsReport(models=[], queue=self.lane.waiting)
        model = LoadedModel(
            model=report.model,
            quant=report.memory.quant,
            device=report.memory.device,
            worker_pid=pid,
            state=state,
            memory=report.memory,
            resident=report.kv.sets,
            for_ever=self.keeper.for_ever,
            expires_s=None if left is None else round(left, 3),
            until=None if left is None else _moment(left),
        )
        return PsReport(models=[model], queue=self.lane.waiting, notice=report.kv.notice)

    async def figures(self) -> bytes:
        """What happened and what is so, in Prometheus' text format."""
        kv = await self.shelf.tiers()
        worker = self._worker
        facts = Facts(
            queue=self.lane.waiting,
            uptime_s=time.monotonic() - self._clock,
            model=worker.model,
            starts=worker.starts,
            deaths={str(cause): count for cause, count in worker.deaths.items()},
            memory=worker.memory,
            kv=kv,
            pins=self.holding.view(),
        )
        return self.metrics.text(facts)

    def _ended(self, job: Job) -> None:
        self.keeper.ended(job)
        self.attendance.changed.set()

    def _worker_ended(self) -> None:
        self.holding.emptied()
        self.keeper.gone()

    async def status(self) -> DaemonStatus:
        """Who runs here, with what, and where its memory goes."""
        await self._worker.refresh()
        return DaemonStatus(
            version=__version__,
            protocol=PROTOCOL,
            pid=os.getpid(),
            started=self._started.isoformat(timespec="seconds"),
            uptime_s=round(time.monotonic() - self._clock, 3),
            socket=str(self.engines.places.socket),
            listen=str(self._address) if self._address else None,
            worker_pid=self._worker.pid,
            worker_state=self._worker.state,
            worker_failure=self._worker.failure,
            model=self._worker.model,
            queue=self.lane.waiting,
            memory=self._worker.memory,
        )


def seconds(asked: KeepAlive | None) -> float | None:
    """What a request says about keep_alive; None: nothing."""
    return None if asked is None else parse_duration(asked)


def _moment(left_s: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=left_s)).isoformat(timespec="seconds")
