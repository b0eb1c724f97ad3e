"""Versions and forks as a client of the daemon sees them: asked again, chosen, forked, put away and brought back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from assistant.client import Client
from assistant.errors import DaemonError, UsageError
from assistant.protocol import Accepted, AskRequest, ConversationChange, Done, Piece
from tests.assistant.talk import ask, done_of, until, with_client
from tests.conftest import RunningDaemon


def question(events: list[object]) -> int:
    accepted = events[0]
    assert isinstance(accepted, Accepted)
    return accepted.turn_id


async def texts(client: Client, name: str = "demo") -> list[str]:
    return [turn.text for turn in await client.turns(name) if turn.role == "user"]


def test_a_replaced_question_is_asked_without_what_followed_the_old_one(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await ask(client, "hello", system="Be kind.")
        second = question([*await ask(client, "second")])
        await ask(client, "third")
        done = done_of(await ask(client, "turns", replaces=second))
        given = [turn[:2] for turn in json.loads(done.text)]
        assert [text for role, text in given if role != "assistant"] == ["Be kind.", "hello", "turns"]
        assert await texts(client) == ["hello", "turns"]
        assert [turn.text for turn in await client.siblings("demo", second)] == ["second", "turns"]
        await client.choose("demo", second)
        assert await texts(client) == ["hello", "second", "third"]
        assert [(turn.version, turn.versions) for turn in await client.turns("demo")][3] == (1, 2)

    with_client(scene)


def test_the_same_question_again_is_read_from_its_recorded_ids(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        first = question([*await ask(client, "turns")])
        again = done_of(await ask(client, "turns", replaces=first))
        assert json.loads(again.text) == [["user", "turns", True]]
        assert [(turn.role, turn.version, turn.versions) for turn in await client.turns("demo")] == [
            ("user", 1, 1),
            ("assistant", 2, 2),
        ]

    with_client(scene)


def test_what_cannot_be_replaced_is_refused_before_it_is_stored(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await ask(client, "hello")
        reply = (await client.turns("demo"))[-1].id
        with pytest.raises(UsageError, match="not written by you"):
            await ask(client, "x", replaces=reply)
        with pytest.raises(UsageError, match="no turn 999"):
            await ask(client, "x", replaces=999)
        with pytest.raises(UsageError, match="no conversation 'nobody'"):
            await ask(client, "x", "nobody", replaces=reply)
        assert len(await client.turns("demo")) == 2
        assert done_of(await ask(client, "hello", "other")).finish == "stop"

    with_client(scene)


def test_a_fork_is_asked_with_the_turns_and_ids_of_its_origin(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        reply = done_of(await ask(client, "hello")).reply_id
        await ask(client, "more")
        fork = await client.fork("demo", reply, "fork")
        assert (fork.name, fork.origin, fork.turns) == ("fork", "demo", 2)
        given = json.loads(done_of(await ask(client, "turns", "fork")).text)
        assert [(turn[1], turn[2]) for turn in given if turn[0] == "user"] == [("hello", True), ("turns", False)]
        assert await texts(client) == ["hello", "more"]
        duplicate = await client.fork("demo")
        assert (duplicate.name, await texts(client, duplicate.name)) == ("demo (2)", ["hello", "more"])
        with pytest.raises(UsageError, match="already a conversation 'fork'"):
            await client.fork("demo", None, "fork")

    with_client(scene)


def test_pins_archive_title_and_name_change_together_or_not_at_all(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        for name in ("one", "two", "three"):
            await ask(client, "hello", name)
        changed = await client.change("one", ConversationChange(name="first", title="A title", pinned=True))
        assert (changed.name, changed.title, changed.pinned) == ("first", "A title", True)
        await client.change("three", ConversationChange(archived=True))
        assert [one.name for one in await client.conversations()] == ["first", "two"]
        assert [one.name for one in await client.conversations(archived=True)] == ["first", "two", "three"]
        with pytest.raises(UsageError, match="already a conversation 'two'"):
            await client.change("first", ConversationChange(name="two", pinned=False))
        assert (await client.conversation("first")).pinned

    with_client(scene)


def test_a_system_prompt_can_change_until_something_is_said(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await ask(client, "hello", system="Be kind.")
        prompt = (await client.turns("demo"))[0]
        await client.fork("demo", prompt.id, "new")
        await client.change("new", ConversationChange(system="Be brief."))
        given = json.loads(done_of(await ask(client, "turns", "new")).text)
        assert [turn[:2] for turn in given] == [["system", "Be brief."], ["user", "turns"]]
        with pytest.raises(UsageError, match="cannot be changed any more"):
            await client.change("new", ConversationChange(system="Be rude.", pinned=True))
        assert not (await client.conversation("new")).pinned

    with_client(scene)


def test_what_was_put_away_comes_back_whole(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        done = done_of(await ask(client, "the canary sings"))
        await client.remove("demo")
        assert await client.conversations(archived=True) == []
        assert await client.search("canary") == []
        with pytest.raises(UsageError, match="no conversation 'demo'"):
            await client.turns("demo")
        assert [one.name for one in await client.conversations(removed=True)] == ["demo"]
        await ask(client, "another", "demo")
        with pytest.raises(UsageError, match="already a conversation 'demo'"):
            await client.restore("demo")
        assert (await client.restore("demo", "back")).name == "back"
        assert [turn.text for turn in await client.turns("back")] == ["the canary sings", done.text]
        assert await client.conversations(removed=True) == []
        with pytest.raises(UsageError, match="No conversation 'demo' was put away"):
            await client.restore("demo")

    with_client(scene)


def test_a_daemon_killed_while_it_answers_a_replaced_question(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon()

    async def killed(client: Client) -> tuple[int, str]:
        first = await ask(client, "hello")
        turn, reply = question([*first]), done_of(first).text
        events = client.ask("demo", AskRequest(text="long 100000", replaces=turn))
        await until(events, Piece)
        daemon.process.kill()
        with pytest.raises(DaemonError, match="kept in the history as interrupted"):
            await until(events, Done)
        return turn, reply

    turn, reply = with_client(killed)
    start_daemon()

    async def scene(client: Client) -> None:
        asked, partial = await client.turns("demo")
        assert (asked.text, asked.state, asked.version, asked.versions) == ("long 100000", "done", 2, 2)
        assert partial.state == "interrupted"
        assert done_of(await ask(client, "turns")).finish == "stop"
        await client.choose("demo", turn)
        assert [one.text for one in await client.turns("demo")] == ["hello", reply]

    with_client(scene)


def test_a_path_can_be_switched_while_a_reply_is_written(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        first = question([*await ask(client, "hello")])
        running = client.ask("demo", AskRequest(text="slow", replaces=first))
        await until(running, Piece)
        await client.choose("demo", first)
        assert await texts(client) == ["hello"]
        assert await client.stop("demo")
        done = await until(running, Done)
        assert await texts(client) == ["hello"]
        other = (await client.siblings("demo", first))[-1]
        await client.choose("demo", other.id)
        assert [turn.text for turn in await client.turns("demo")] == ["slow", done.text]

    with_client(scene)
