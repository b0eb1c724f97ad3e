"""A worker that is started ahead of its first request: what is so while it starts, when it dies, and when it cannot."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from assistant.daemon import worker as child
from tests.assistant.child import said


def test_a_worker_that_has_said_nothing_is_ended_at_once_and_is_no_death(tmp_path: Path) -> None:
    async def scene() -> None:
        worker = child.Worker(tmp_path / "log", (sys.executable, "-c", "import time; time.sleep(60)"))
        await worker.prepare()
        assert worker.state == "starting"
        async with asyncio.timeout(child.FLUSH_S / 2):
            await worker.stop()
        assert (worker.state, worker.failure, worker.deaths.total()) == ("none", None, 0)

    asyncio.run(scene())


def test_a_worker_that_is_stopped_while_it_is_being_started_does_not_stay(tmp_path: Path) -> None:
    async def scene() -> None:
        worker = child.Worker(tmp_path / "log", (sys.executable, "-c", "import time; time.sleep(60)"))
        starting = asyncio.create_task(worker.prepare())
        await asyncio.sleep(0)
        assert worker.lives
        starting.cancel()
        await worker.stop()
        assert not worker.lives

    asyncio.run(scene())


def test_a_worker_that_dies_while_it_starts_is_told_and_counted_once(tmp_path: Path) -> None:
    async def scene() -> None:
        worker = child.Worker(tmp_path / "log", (sys.executable, "-c", "raise SystemExit(3)"))
        ended = asyncio.Event()
        worker.on_end = ended.set
        await worker.prepare()
        async with asyncio.timeout(10):
            await ended.wait()
        assert (worker.state, worker.failure, worker.starts) == ("none", "ended with code 3", 1)
        assert worker.deaths == {"crash": 1}

    asyncio.run(scene())


def test_a_worker_that_cannot_be_started_is_for_the_request_to_report(tmp_path: Path) -> None:
    async def scene() -> None:
        worker = child.Worker(tmp_path / "log", ("/does/not/exist",))
        await worker.prepare()
        assert worker.state == "none"
        with pytest.raises(child.WorkerDied, match="could not be started"):
            await said(worker, "hello")

    asyncio.run(scene())
