"""How long an idle worker stays, and an idle daemon: who asks for what, whom it binds, and what ends them."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.commands.ps import lines
from assistant.daemon.keeper import Attendance, Stay
from assistant.daemon.probe import lives
from assistant.errors import DaemonError, Exit
from assistant.protocol import AskRequest, Piece
from assistant.reports import PsReport
from tests.assistant.clock import Clock
from tests.assistant.command import run, run_json
from tests.assistant.talk import ask, done_of, eventually, until, with_client
from tests.conftest import RunningDaemon


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_setting_counts_from_the_last_reply(clock: Clock) -> None:
    stay = Stay(300.0, clock)
    assert stay.left() == -math.inf, "nothing was asked yet"
    stay.ended(None)
    clock.now += 200
    stay.ended(None)
    assert stay.left() == 300


def test_a_request_can_ask_for_less_than_the_setting_and_for_more(clock: Clock) -> None:
    stay = Stay(300.0, clock)
    stay.ended(None)
    stay.ended(0.0)
    assert stay.left() == 0
    stay.ended(3600.0)
    assert stay.left() == 3600


def test_a_request_cannot_shorten_what_another_asked_for(clock: Clock) -> None:
    stay = Stay(300.0, clock)
    stay.ended(3600.0)
    clock.now += 600
    for asked in (0.0, 60.0, None):
        stay.ended(asked)
        assert stay.left() == 3000
    clock.now += 2900
    stay.ended(None)
    assert stay.left() == 300


def test_for_ever_lasts_until_it_is_dropped(clock: Clock) -> None:
    stay = Stay(300.0, clock)
    stay.ended(math.inf)
    clock.now += 1e9
    stay.ended(0.0)
    assert stay.left() == math.inf
    stay.drop()
    assert stay.left() < 0


def test_a_daemon_is_idle_from_the_end_of_the_last_request(clock: Clock) -> None:
    attendance = Attendance(60.0, clock)
    clock.now += 50
    assert attendance.left() == 10
    attendance.came()
    attendance.came()
    clock.now += 1000
    attendance.left_again()
    assert attendance.left() is None, "one is still open"
    attendance.left_again()
    assert attendance.left() == 60
    assert Attendance(math.inf, clock).left() is None


async def no_model(client: Client) -> bool:
    return (await client.ps()).models == []


def test_0_ends_the_worker_after_the_reply_and_the_next_question_starts_another(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        first = (await ask_for(client, "hello")).models[0]
        assert first.expires_s is not None
        assert 1700 < first.expires_s <= 1800
        await ask(client, "hello", keep_alive=0)
        await eventually(lambda: no_model(client), "the worker has ended")
        assert not lives(first.worker_pid)
        second = (await ask_for(client, "hello", keep_alive="-1")).models[0]
        assert second.worker_pid != first.worker_pid
        assert (second.for_ever, second.until) == (True, None)
        await ask(client, "hello", keep_alive="0s")
        assert (await client.ps()).models[0].for_ever, "what was promised holds"

    with_client(scene)


async def ask_for(client: Client, text: str, **fields: object) -> PsReport:
    """Ask, and what is loaded afterwards."""
    await ask(client, text, **fields)
    return await client.ps()


def test_0_waits_for_those_that_wait(daemon: RunningDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        running = client.ask("demo", AskRequest(text=f"slow {gate}", keep_alive=0))
        await until(running, Piece)
        worker = (await client.ps()).models[0].worker_pid
        waiting = asyncio.create_task(ask(client, "hello", "other"))
        await eventually(lambda: queued(client, 1), "the other one waits")
        gate.touch()
        done_of([event async for event in running])
        done_of(await waiting)
        assert (await client.ps()).models[0].worker_pid == worker

    with_client(scene)


async def queued(client: Client, count: int) -> bool:
    return (await client.ps()).queue == count


def test_the_setting_ends_the_worker_and_then_the_daemon(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon(ASSISTANT_KEEP_ALIVE="0", ASSISTANT_EXIT_AFTER="4s")
    with_client(lambda client: ask(client, "hello"))
    assert daemon.wait() == 0
    assert "nobody asked" in daemon.places.log.read_text()
    assert "unloading" in daemon.places.log.read_text()


def test_an_open_stream_keeps_the_daemon(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon(ASSISTANT_EXIT_AFTER="3s")
    assert done_of(with_client(lambda client: ask(client, "pace 10 40"))).finish == "stop"  # takes four seconds
    assert daemon.wait() == 0


def test_unload_ends_the_worker_and_its_pins(daemon: RunningDaemon) -> None:
    assert run_json("daemon", "unload") == {"unloaded": True, "pending": 0}
    with_client(lambda client: ask(client, "hello", keep_alive=-1))
    report = run_json("ps")
    assert report["models"][0]["resident"][0]["conversation"] == "demo"
    assert "stays until it is unloaded" in run("ps").stdout
    worker = report["models"][0]["worker_pid"]
    assert run("daemon", "unload").stdout == "No model is loaded any more.\n"
    assert not lives(worker)
    assert run("ps").stdout == "No model is loaded.\n"
    assert with_client(lambda client: ask_for(client, "hello")).models[0].worker_pid != worker


def test_unload_in_mid_reply_waits_for_its_end(daemon: RunningDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text=f"slow {gate}", keep_alive="1h"))
        await until(events, Piece)
        assert (await client.unload()).model_dump() == {"unloaded": False, "pending": 1}
        assert "at work" in (await asyncio.to_thread(run, "ps")).stdout
        gate.touch()
        assert done_of([event async for event in events]).finish == "stop"
        await eventually(lambda: no_model(client), "the worker has ended")

    with_client(scene)


def test_questions_that_meet_an_ending_worker_get_a_new_one(daemon: RunningDaemon) -> None:
    """The worker takes half a second to end; what is asked meanwhile is answered by the next one, which stays."""

    async def scene(client: Client) -> None:
        for number in range(3):
            await ask(client, "linger")
            unloading = asyncio.create_task(client.unload())
            replies = await asyncio.gather(*(ask(client, "hello", f"talk {number} {one}") for one in range(3)))
            assert [done_of(events).finish for events in replies] == ["stop"] * 3
            await unloading
        assert len((await client.ps()).models) == 1

    with_client(scene)
    assert (daemon.places.kv / "flushed").exists()


def test_ps_and_unload_start_no_daemon(home: Path) -> None:
    for args in (("ps",), ("daemon", "unload")):
        assert "assistant daemon start" in run(*args, code=7).stderr
    with pytest.raises(DaemonError):
        with_client(lambda client: client.ps())


async def is_ready(client: Client) -> bool:
    return (await client.status()).worker_state == "ready"


def test_a_worker_without_a_model_is_ready_before_anybody_asks_and_again_when_a_client_wants_one(
    daemon: RunningDaemon,
) -> None:
    async def scene(client: Client) -> None:
        await eventually(lambda: is_ready(client), "a worker is ready")
        assert "No model is loaded; worker" in "\n".join(lines(await client.ps()))
        first = (await client.ps()).models[0]
        assert first.model is None
        assert (await ask_for(client, "hello")).models[0].worker_pid == first.worker_pid
        await client.unload()
        assert await no_model(client)
        await client.prepare()
        await eventually(lambda: is_ready(client), "another one is ready")
        second = (await client.ps()).models[0]
        await client.prepare()
        await client.unload()
        assert not lives(second.worker_pid)

    with_client(scene)


def test_no_worker_is_started_ahead_where_none_stays(start_daemon: Callable[..., RunningDaemon]) -> None:
    start_daemon(ASSISTANT_KEEP_ALIVE="0")

    async def scene(client: Client) -> None:
        await client.prepare()
        assert await no_model(client)

    with_client(scene)


def test_a_daemon_that_is_told_to_end_while_its_worker_starts_ends(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon()  # it answers from this moment, and has just begun to start a worker
    assert daemon.signal(signal.SIGTERM) == Exit.SIGTERM
    assert "Traceback" not in daemon.places.log.read_text()
