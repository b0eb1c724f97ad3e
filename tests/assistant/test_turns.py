"""The way of one turn through a real daemon with a scripted worker: replies, stops, crashes, the queue."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.daemon.probe import lives
from assistant.errors import AssistantError, BudgetError, DaemonError, ModelError, UsageError
from assistant.history import History
from assistant.protocol import Accepted, AskRequest, Done, Failed, ImportRequest, NewTurn, Piece, Queued
from tests.assistant.talk import ask, done_of, eventually, failed_of, text_of, until, with_client
from tests.conftest import RunningDaemon


def test_a_reply_is_streamed_and_stored(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        events = await ask(client, "hello")
        assert [event.event for event in events[:2]] == ["accepted", "loading"]
        done = done_of(events)
        assert text_of(events) == done.text
        assert done.usage.prompt_tokens == 5
        user, reply = await client.turns("demo")
        assert (user.text, user.state) == ("hello", "done")
        assert (reply.text, reply.state, reply.usage) == (done.text, "done", done.usage)

    with_client(scene)


def test_the_model_gets_every_earlier_turn_with_its_token_ids(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        first = done_of(await ask(client, "hello", system="Be kind."))
        second = done_of(await ask(client, "turns"))
        assert json.loads(second.text) == [
            ["system", "Be kind.", True],
            ["user", "hello", True],
            ["assistant", first.text, True],
            ["user", "turns", False],
        ]

    with_client(scene)


def test_a_restarted_daemon_goes_on_and_says_what_it_reads_again(
    start_daemon: Callable[..., RunningDaemon],
) -> None:
    first = start_daemon()
    with_client(lambda client: ask(client, "hello"))
    assert first.signal(signal.SIGTERM) == 143
    start_daemon()
    done = done_of(with_client(lambda client: ask(client, "turns")))
    assert json.loads(done.text)[0][1] == "hello"
    assert done.usage.recomputed_tokens > 0
    assert done.usage.recompute_reason == "the worker is new"


def test_stop_keeps_the_partial_reply(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text="slow"))
        await until(events, Piece)
        assert await client.stop("demo")
        done = await until(events, Done)
        assert (done.finish, done.text) == ("cancelled", "Waiting for the gate. ")
        reply = (await client.turns("demo"))[-1]
        assert (reply.state, reply.text) == ("interrupted", "Waiting for the gate. ")
        assert not await client.stop("demo")

    with_client(scene)


def test_a_client_that_goes_away_cancels(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        other = await Client.connect()
        await until(other.ask("demo", AskRequest(text="slow")), Piece)
        await other.close()

        async def interrupted() -> bool:
            return (await client.turns("demo"))[-1].state == "interrupted"

        await eventually(interrupted, "the reply is interrupted")
        assert (await client.turns("demo"))[-1].text == "Waiting for the gate. "
        assert done_of(await ask(client, "hello")).finish == "stop"

    with_client(scene)


def test_a_crash_of_the_worker_is_told_and_the_partial_kept(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        failed = failed_of(await ask(client, "crash"))
        assert "SIGKILL" in failed.message
        assert "next message starts a new worker" in failed.message
        reply = (await client.turns("demo"))[-1]
        assert (reply.state, reply.text) == ("interrupted", "These words were written ")
        assert done_of(await ask(client, "hello")).finish == "stop"
        assert "SIGKILL" in failed_of(await ask(client, "crash-at-once")).message

    with_client(scene)


def test_a_worker_that_talks_nonsense_is_replaced(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        assert "not in the protocol" in failed_of(await ask(client, "garbage")).message
        assert done_of(await ask(client, "hello")).finish == "stop"

    with_client(scene)


def test_kill_9_of_the_worker_twenty_times(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        for number in range(20):
            name = f"talk {number % 4}"
            events = client.ask(name, AskRequest(text="slow"))
            writing = number % 2
            await until(events, Piece if writing else Accepted)
            await asyncio.sleep(0 if writing else random.uniform(0, 0.2))
            if (pid := (await client.status()).worker_pid) is not None:
                os.kill(pid, signal.SIGKILL)
            if writing:
                assert "SIGKILL" in (await until(events, Failed)).message
            else:  # a worker that had not said a word yet is replaced without one
                await client.stop(name)
                await events.aclose()
        for number in range(4):
            turns = await client.turns(f"talk {number}")
            assert [turn.state for turn in turns] == ["done", "interrupted"] * 5
        assert done_of(await ask(client, "hello")).finish == "stop"

    with_client(scene)


def test_a_worker_that_died_while_idle_is_not_missed(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        for _ in range(5):
            assert done_of(await ask(client, "hello")).finish == "stop"
            pid = (await client.status()).worker_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

    with_client(scene)


@pytest.mark.parametrize("moment", range(3))
def test_a_daemon_killed_in_mid_reply(start_daemon: Callable[..., RunningDaemon], home: Path, moment: int) -> None:
    daemon = start_daemon()
    seen: list[str] = []

    async def scene(client: Client) -> None:
        await ask(client, "hello", "earlier")
        events = client.ask("demo", AskRequest(text="long 100000"))
        for _ in range(1 + moment * 30):
            seen.append((await until(events, Piece)).text)
        worker = (await client.status()).worker_pid
        daemon.process.kill()
        async with asyncio.timeout(2):
            with pytest.raises(DaemonError, match=r"died .* kept in the history as interrupted"):
                await until(events, Done)
        assert worker is not None
        await eventually(lambda: _is_gone(worker), "the worker has left")

    with_client(scene)
    start_daemon()
    turns = with_client(lambda client: client.turns("demo"))
    assert (turns[0].text, turns[0].state) == ("long 100000", "done")
    assert turns[1].state == "interrupted"
    assert turns[1].text.startswith("word0 ")
    assert [turn.state for turn in with_client(lambda client: client.turns("earlier"))] == ["done", "done"]
    assert done_of(with_client(lambda client: ask(client, "hello"))).finish == "stop"


async def _is_gone(pid: int) -> bool:
    return not lives(pid)


def test_the_partial_is_checkpointed_while_the_reply_runs(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        running = client.ask("demo", AskRequest(text="slow"))
        await until(running, Piece)

        async def stored() -> bool:
            return (await client.turns("demo"))[-1].text == "Waiting for the gate. "

        await eventually(stored, "the first piece is stored")
        assert (await client.turns("demo"))[-1].state == "pending"

    with_client(scene)


def test_who_waits_hears_the_position_and_a_full_queue_refuses(
    start_daemon: Callable[..., RunningDaemon], home: Path
) -> None:
    start_daemon(ASSISTANT_QUEUE="2")
    gate = home / "gate"

    async def scene(client: Client) -> None:
        running = client.ask("first", AskRequest(text=f"slow {gate}"))
        await until(running, Piece)
        second, third = (client.ask(name, AskRequest(text="hello")) for name in ("second", "third"))
        assert (await until(second, Queued)).position == 1
        assert (await until(third, Queued)).position == 2
        with pytest.raises(AssistantError, match="2 requests are waiting already; nothing was stored"):
            await ask(client, "too much", "fourth")
        assert not await client.conversations("fourth")
        assert (await client.status()).queue == 2
        gate.touch()
        assert (await until(running, Done)).finish == "stop"
        assert (await until(third, Queued)).position == 1
        assert (await until(second, Done)).finish == "stop"
        assert (await until(third, Done)).finish == "stop"

    with_client(scene)


def test_a_waiting_request_can_be_stopped(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        running = client.ask("first", AskRequest(text="slow"))
        await until(running, Piece)
        waiting = client.ask("second", AskRequest(text="hello"))
        await until(waiting, Queued)
        assert await client.stop("second")
        assert (await until(waiting, Failed)).exit_code == 130
        assert [(turn.text, turn.state) for turn in await client.turns("second")] == [
            ("hello", "done"),
            ("", "interrupted"),
        ]
        assert await client.stop("first")

    with_client(scene)


def test_two_questions_in_one_conversation_keep_their_order(daemon: RunningDaemon, home: Path) -> None:
    gate = home / "gate"

    async def scene(client: Client) -> None:
        first = client.ask("demo", AskRequest(text=f"slow {gate}"))
        await until(first, Piece)
        second = client.ask("demo", AskRequest(text="turns"))
        await until(second, Queued)
        gate.touch()
        await until(first, Done)
        roles = [turn[0] for turn in json.loads((await until(second, Done)).text)]
        assert roles == ["user", "assistant", "user"]

    with_client(scene)


@pytest.mark.parametrize(("code", "kind"), [(5, BudgetError), (6, ModelError)])
def test_the_workers_refusal_comes_through(daemon: RunningDaemon, code: int, kind: type[AssistantError]) -> None:
    failed = failed_of(with_client(lambda client: ask(client, f"fail {code} The sum is 3 GiB.")))
    assert (failed.message, failed.exit_code) == ("The sum is 3 GiB.", code)
    assert kind.exit_code == code


def test_what_cannot_run_is_refused_before_it_is_stored(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        with pytest.raises(ModelError, match="fake"):
            await ask(client, "hello", engine={"model": "fakee"})
        with pytest.raises(ModelError, match="assistant models pull"):
            await ask(client, "hello", engine={"model": "smollm2-135m"})
        with pytest.raises(UsageError, match="is not a size"):
            await ask(client, "hello", engine={"budget": "much"})
        assert await client.conversations() == []

    with_client(scene)


def test_import_stores_then_reads(daemon: RunningDaemon) -> None:
    turns = [NewTurn(role="transcript", text=f"Ann: line {number}") for number in range(50)]

    async def scene(client: Client) -> None:
        events = [event async for event in client.import_turns("talk", ImportRequest.model_validate({"turns": turns}))]
        done = done_of(events)
        assert (done.finish, done.text, done.reply_id) == ("read", "", None)
        assert [event.event for event in events].count("prefill") == 2
        stored = await client.turns("talk", limit=500)
        assert [turn.text for turn in stored] == [turn.text for turn in turns]
        assert stored[-1].usage == done.usage
        asked = done_of(await ask(client, "turns", "talk"))
        assert all(turn[2] for turn in json.loads(asked.text)[:-1])

    with_client(scene)


def test_a_removed_conversation_is_stopped_first(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text="slow"))
        await until(events, Piece)
        await client.purge("demo")
        assert (await until(events, Done)).finish == "cancelled"
        assert await client.conversations() == []

    with_client(scene)


def test_another_model_is_not_given_the_token_ids(start_daemon: Callable[..., RunningDaemon], home: Path) -> None:
    catalog = home / "config" / "models.toml"
    catalog.write_text(catalog.read_text() + f'\n[other]\nsource = "file:{home / "fake"}"\n')
    start_daemon()

    async def scene(client: Client) -> None:
        await ask(client, "hello")
        other = done_of(await ask(client, "turns", engine={"model": "other"}))
        assert other.model == "other"
        assert not any(turn[2] for turn in json.loads(other.text))

    with_client(scene)


def test_the_history_alone_tells_what_was_said(daemon: RunningDaemon) -> None:
    with_client(lambda client: ask(client, "hello"))
    daemon.signal(signal.SIGTERM)
    history = History(daemon.places.history)
    assert [turn.role for turn in history.turns("demo")] == ["user", "assistant"]
    history.close()
