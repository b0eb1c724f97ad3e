"""The end of a daemon: who is told what, who is refused, and what is written before it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

import assistant.daemon.worker as child
from assistant.client import Client
from assistant.daemon.lifecycle import STOPPING
from assistant.daemon.probe import lives
from assistant.protocol import AskRequest, Event, Failed, Notice, Piece, Queued
from tests.assistant.child import said, worker_at
from tests.assistant.talk import ask, done_of, failed_of, until, with_client
from tests.conftest import RunningDaemon


def told_of_the_end(events: list[Event]) -> bool:
    return [event.text for event in events if isinstance(event, Notice)] == [STOPPING]


def test_every_stream_is_told_why_it_ends(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon()

    async def scene(client: Client) -> None:
        running = client.ask("demo", AskRequest(text="slow"))
        await until(running, Piece)
        waiting = client.ask("other", AskRequest(text="hello"))
        await until(waiting, Queued)
        await client.shutdown()
        written, unwritten = [event async for event in running], [event async for event in waiting]
        assert done_of(written).finish == "cancelled"
        assert failed_of(unwritten).message == "Stopped before the model began. Your text is kept."
        assert told_of_the_end(written)
        assert told_of_the_end(unwritten)

    with_client(scene)
    assert daemon.wait() == 0
    start_daemon()
    turns = with_client(lambda client: client.turns("other"))
    assert [(turn.text, turn.state) for turn in turns] == [("hello", "done"), ("", "interrupted")]


def test_until_the_kv_is_written_newcomers_hear_that_the_daemon_is_stopping(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        await ask(client, f"linger {gate}")
        await client.shutdown()
        transport = httpx2.AsyncHTTPTransport(uds=str(daemon.places.socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://daemon") as http:
            for _ in range(3):
                answer = await http.post("/api/conversations/x/ask", json={"text": "hello"})
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert "is stopping" in Failed.model_validate_json(answer.content).message
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
        gate.touch()

    with_client(scene)
    assert daemon.wait() == 0
    assert (daemon.places.kv / "flushed").exists()


def test_a_worker_that_does_not_leave_is_ended_after_the_stated_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "FLUSH_S", 0.2)

    async def scene() -> None:
        async with worker_at(tmp_path) as worker:
            await said(worker, f"linger {tmp_path / 'never'}")
            pid = worker.pid
            assert pid is not None
            await worker.stop()
            assert worker.pid is None
            assert not lives(pid)
            assert worker.deaths.total() == 0, "it was asked to end"

    asyncio.run(scene())


def test_a_child_that_was_started_while_another_left_is_not_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        gate = tmp_path / "gate"
        async with worker_at(tmp_path) as worker:
            await said(worker, f"linger {gate}")
            old = worker.pid
            stopping = asyncio.create_task(worker.stop())
            asking = asyncio.create_task(said(worker, "hello"))
            await asyncio.sleep(0)
            gate.touch()
            with pytest.raises(child.WorkerDied):
                await asking
            await said(worker, "hello again")
            await stopping
            assert worker.pid not in (None, old)

    asyncio.run(scene())
