"""A client that goes away: its reply ends with it, unless it was asked to go on; and what streams tell besides text."""

from __future__ import annotations

import signal
from pathlib import Path

from assistant.client import Client
from assistant.protocol import AskRequest, Evicted, Loading, Piece, Prefill, Switched, Turn
from tests.assistant.command import run
from tests.assistant.talk import ask, done_of, eventually, until, with_client
from tests.conftest import RunningDaemon


async def reply(client: Client, name: str = "demo") -> Turn:
    return (await client.turns(name))[-1]


async def is_now(client: Client, state: str) -> bool:
    return (await reply(client)).state == state


def test_a_detached_reply_goes_on_without_its_client(daemon: RunningDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text=f"slow {gate}", detach=True))
        await until(events, Piece)
        await events.aclose()
        await eventually(lambda: shown(client, "Waiting for the gate. "), "what was written so far is in the history")
        assert (await reply(client)).state == "pending"
        gate.touch()
        await eventually(lambda: is_now(client, "done"), "the reply is done")
        assert (await reply(client)).text == "Waiting for the gate. The gate is open."
        assert (await reply(client)).usage is not None

    with_client(scene)


async def shown(client: Client, text: str) -> bool:
    return (await reply(client)).text == text


def test_without_detach_it_ends_with_its_client(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text="slow"))
        await until(events, Piece)
        await events.aclose()
        await eventually(lambda: is_now(client, "interrupted"), "the reply is stopped")
        assert done_of(await ask(client, "hello", "other")).finish == "stop"

    with_client(scene)


def test_a_detached_reply_can_be_stopped_and_ends_with_the_daemon(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        for name in ("demo", "other"):
            events = client.ask(name, AskRequest(text="slow", detach=True))
            await until(events, Piece)
            await events.aclose()
            if name == "demo":
                assert await client.stop("demo")
                assert (await reply(client)).state == "interrupted"

    with_client(scene)
    assert daemon.signal(signal.SIGTERM) == 143


def test_loading_reading_switches_and_evictions_are_told(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        events = await ask(client, "switch 3")
        kinds = [type(event) for event in events]
        assert {Loading, Prefill, Switched, Evicted} <= set(kinds)
        assert [event.episode for event in events if isinstance(event, Switched)] == [3]
        done_of(events)

    with_client(scene)


def test_commands_pass_them_over_in_silence(shared_daemon: RunningDaemon) -> None:
    done = run("ask", "switch 3")
    assert (done.stdout, done.stderr) == ("About rivers.\n", "")
