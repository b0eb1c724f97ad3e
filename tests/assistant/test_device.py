"""A GPU that is lost, or that slept: the worker is replaced, nobody's text is lost, and it is said once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from assistant.client import Client
from assistant.daemon.suspend import Suspension, slept_s
from assistant.orders import WorkerEvent
from assistant.protocol import Notice
from tests.assistant.child import said, worker_at
from tests.assistant.clock import Clock
from tests.assistant.talk import ask, done_of, eventually, failed_of, with_client
from tests.conftest import RunningDaemon


def notices(events: list[WorkerEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def test_a_device_lost_in_mid_reply_costs_a_restart_and_no_text(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        message = failed_of(await ask(client, "lose-device")).message
        assert message.startswith("The worker lost its device (")
        assert message.endswith("kept as interrupted; the next message starts a new worker.")
        assert (await client.turns("demo"))[-1].text == "These words were written "
        again = await ask(client, "hello")
        assert done_of(again).finish == "stop"
        assert not [event for event in again if isinstance(event, Notice)], "the failure has said it"

    with_client(scene)


def test_a_device_lost_while_nobody_asked_is_said_with_the_next_question(daemon: RunningDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        await ask(client, f"lose-later {gate}")
        gate.touch()
        await eventually(lambda: no_worker(client), "the worker has ended")
        events = await ask(client, "hello")
        told = [event.text for event in events if isinstance(event, Notice)]
        assert len(told) == 1
        assert "lost its device" in told[0]
        assert told[0].endswith("while it was idle. Another one was started.")
        assert done_of(events).finish == "stop"
        assert not [event for event in await ask(client, "hello") if isinstance(event, Notice)]

    with_client(scene)


async def no_worker(client: Client) -> bool:
    return (await client.status()).worker_pid is None


def test_sleep_is_the_distance_between_two_clocks() -> None:
    clock = Clock(5.0)
    suspension = Suspension(clock)
    assert not suspension.happened()
    clock.now += 0.5
    assert not suspension.happened()
    clock.now += 3600
    assert suspension.happened()
    assert not suspension.happened(), "once"
    assert slept_s() >= -1.0


def test_a_gpu_that_slept_gets_a_new_worker_and_a_cpu_does_not(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = Clock()
        async with worker_at(tmp_path, Suspension(clock)) as worker:
            await said(worker, "hello")
            first = worker.pid
            clock.now += 3600
            assert notices(await said(worker, "still here")) == []
            assert worker.pid == first
            await said(worker, "device cuda")
            assert worker.pid == first
            clock.now += 3600
            assert notices(await said(worker, "good morning")) == [
                "The machine was asleep: the model is loaded anew, its memory comes back from disk."
            ]
            assert worker.pid != first
            assert (worker.starts, worker.deaths.total()) == (2, 0)
            assert notices(await said(worker, "hello")) == []

    asyncio.run(scene())
