"""A removed conversation leaves nothing behind: neither its words nor its token ids, in no file of the home."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.errors import AssistantError
from assistant.history import History
from assistant.protocol import AskRequest, Done, Piece
from tests.assistant.talk import ask, done_of, end_the_worker, eventually, until, with_client
from tests.conftest import RunningDaemon

CANARY, OTHER = "Quetzal7731", "Axolotl4412"


def ids(word: str) -> bytes:
    """A word as the scripted worker's token ids, in the form in which history and KV folder store them."""
    return word.encode("utf-32-le")


def holding(home: Path, needle: bytes) -> list[str]:
    """Files with these bytes, by their names."""
    files = (path for path in home.rglob("*") if path.is_file())
    return sorted(path.name for path in files if needle.lower() in path.read_bytes().lower())


@pytest.mark.parametrize("alive", [True, False], ids=["with the worker", "without a worker"])
def test_words_and_token_ids_are_gone_from_every_file(daemon: RunningDaemon, home: Path, alive: bool) -> None:
    async def scene(client: Client) -> None:
        await ask(client, f"turns my secret is {CANARY}", f"about {CANARY}")
        await ask(client, f"turns my secret is {OTHER}", "other")
        assert {hit.conversation for hit in await client.search(CANARY)} == {f"about {CANARY}"}
        for needle in (CANARY.encode(), ids(CANARY)):
            assert any(name.startswith("history.db") for name in holding(home, needle))
        assert any(name.endswith(".tail") for name in holding(home, ids(CANARY)))
        if not alive:
            await end_the_worker(client)
        await client.purge(f"about {CANARY}")
        assert holding(home, CANARY.encode()) == []
        assert holding(home, ids(CANARY)) == []
        assert any(name.endswith(".tail") for name in holding(home, ids(OTHER)))
        assert {hit.conversation for hit in await client.search(OTHER)} == {"other"}
        assert ((await client.status()).worker_pid is not None) is alive
        assert done_of(await ask(client, "hello", "other")).finish == "stop"

    with_client(scene)
    daemon.signal(signal.SIGTERM)
    assert holding(home, CANARY.encode()) == []
    assert holding(home, ids(CANARY)) == []


def test_the_worker_forgets_while_it_writes_another_reply(daemon: RunningDaemon, home: Path) -> None:
    gate = home / "gate"

    async def scene(client: Client) -> None:
        await ask(client, f"turns {CANARY}", "secret")
        running = client.ask("other", AskRequest(text=f"slow {gate}"))
        await until(running, Piece)
        await client.purge("secret")
        assert holding(home, ids(CANARY)) == []
        gate.touch()
        assert (await until(running, Done)).finish == "stop"

    with_client(scene)


def test_what_is_still_being_read_is_forgotten_too(daemon: RunningDaemon, home: Path) -> None:
    async def scene(client: Client) -> None:
        running = client.ask("secret", AskRequest(text=f"slow and {CANARY}"))
        await until(running, Piece)
        await client.purge("secret")
        assert (await until(running, Done)).finish == "cancelled"
        assert holding(home, CANARY.encode()) == []
        assert holding(home, ids(CANARY)) == []

    with_client(scene)


def test_kv_that_cannot_be_removed_keeps_the_conversation(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await ask(client, "hello", "demo")
        await end_the_worker(client)
        lock = daemon.places.kv / "lock"
        lock.unlink()
        lock.mkdir()
        with pytest.raises(AssistantError, match="still there"):
            await client.purge("demo")
        assert [one.name for one in await client.conversations()] == ["demo"]
        lock.rmdir()
        await client.purge("demo")
        assert await client.conversations() == []

    with_client(scene)


def put_away_days_ago(path: Path, days: int) -> None:
    """Let everything that was put away have been so for longer."""
    history = History(path)
    moment = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")
    history._db.execute("UPDATE conversations SET removed = ? WHERE removed IS NOT NULL", [moment])
    history._db.conn.commit()
    history.close()


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_what_was_put_away_is_purged_after_30_days(
    start_daemon: Callable[..., RunningDaemon], home: Path, days: int, kept: bool
) -> None:
    async def put_away(client: Client) -> None:
        await ask(client, f"turns my secret is {CANARY}", "secret")
        await ask(client, f"turns {OTHER}", "other")
        await client.remove("secret")

    first = start_daemon()
    with_client(put_away)
    assert any(name.endswith(".tail") for name in holding(home, ids(CANARY)))
    first.signal(signal.SIGTERM)
    put_away_days_ago(first.places.history, days)
    second = start_daemon()

    async def scene(client: Client) -> None:
        async def settled() -> bool:
            return [one.name for one in await client.conversations(removed=True)] == ["secret"] * kept

        await eventually(settled, "the purge is over")
        assert [one.name for one in await client.conversations()] == ["other"]
        if kept:
            assert (await client.restore("secret")).turns == 2

    with_client(scene)
    second.signal(signal.SIGTERM)
    assert bool(holding(home, CANARY.encode())) is kept
    assert bool(holding(home, ids(CANARY))) is kept
