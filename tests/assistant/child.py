"""The daemon's side of a worker, without a daemon: a scripted child, spoken to directly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from assistant.daemon.suspend import Suspension
from assistant.daemon.worker import Worker
from assistant.orders import ModelSpec, Run, WorkerDone, WorkerEvent, WorkerTurn
from assistant.protocol import Sampling
from tests.fake_daemon import WORKER


@asynccontextmanager
async def worker_at(tmp_path: Path, suspension: Suspension | None = None) -> AsyncIterator[Worker]:
    worker = Worker(tmp_path / "log", WORKER, suspension)
    try:
        yield worker
    finally:
        await worker.stop()


async def said(worker: Worker, text: str) -> list[WorkerEvent]:
    """Everything the worker says to one message."""
    turn = WorkerTurn(id=1, role="user", text=text)
    request = Run(
        id=text, spec=ModelSpec(id="fake", path="x"), conversation="c", turns=[turn], reply_id=2, sampling=Sampling()
    )
    events = [event async for event in worker.run(request, asyncio.Event())]
    assert isinstance(events[-1], WorkerDone)
    return events
