"""The client: finding, starting and losing a daemon; what a pull by child process reports."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from assistant.client import PAGE, Client, every_turn, pull
from assistant.daemon import spawn
from assistant.daemon.probe import listener
from assistant.errors import DaemonError, ModelError, UsageError
from assistant.places import Places
from assistant.protocol import AskRequest
from tests.assistant.talk import other_daemon, with_client
from tests.assistant.views.made import turn
from tests.conftest import RunningDaemon, wait_until


def test_without_a_daemon_and_without_starting_one(places: Places) -> None:
    with pytest.raises(DaemonError, match="assistant daemon start"):
        asyncio.run(Client.connect(start=False))


def test_connect_starts_one_daemon_however_many_ask(places: Places) -> None:
    async def pid() -> int:
        async with await Client.connect() as client:
            return (await client.status()).pid

    async def crowd() -> list[int]:
        return await asyncio.gather(*(pid() for _ in range(3)))

    pids = asyncio.run(crowd())
    assert len(set(pids)) == 1
    os.kill(pids[0], signal.SIGTERM)
    assert spawn.wait_for_end(places, pids[0], 20)
    assert listener(places.socket) is None


def test_a_daemon_that_cannot_start_says_why(home: Path, places: Places) -> None:
    (home / "config" / "config.toml").write_text("modell = 'x'\n")
    with pytest.raises(DaemonError, match=r"could not start: .*unknown key 'modell'"):
        asyncio.run(Client.connect())


def test_a_damaged_history_keeps_the_daemon_from_starting(home: Path, places: Places) -> None:
    (home / "data").mkdir()
    places.history.write_bytes(b"nonsense " * 1000)
    with pytest.raises(DaemonError, match=r"could not start: The history .* cannot be opened"):
        asyncio.run(Client.connect())


def test_a_daemon_that_is_gone_is_a_sentence(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        daemon.signal(signal.SIGKILL)
        with pytest.raises(DaemonError, match="does not answer"):
            await client.status()
        with pytest.raises(DaemonError, match="died"):
            await anext(client.ask("demo", AskRequest(text="hello")))

    with_client(scene)


def test_another_protocol_is_refused(places: Places) -> None:
    with other_daemon(places, 99) as other:
        said = rf"\(version 0\.0\.1, protocol 99, pid {other.pid}\) is newer than .*assistant daemon restart"
        with pytest.raises(DaemonError, match=said):
            asyncio.run(Client.connect())


def test_a_name_that_cannot_be_is_refused_by_the_client(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        with pytest.raises(UsageError, match="cannot be a name"):
            await client.rename("demo", "x\n")

    with_client(scene)


def test_pull_of_an_unknown_model_carries_the_exit_code(home: Path) -> None:
    async def steps() -> None:
        async for _ in pull("no-such-model"):
            pass

    with pytest.raises(ModelError, match="no-such-model") as caught:
        asyncio.run(steps())
    assert caught.value.exit_code == 6


def test_one_that_comes_while_a_daemon_leaves_gets_the_next_one(places: Places) -> None:
    places.runtime.mkdir(mode=0o700)
    leaving = FileLock(places.lock, timeout=0)
    leaving.acquire()
    found: list[int] = []
    starting = threading.Thread(target=lambda: found.append(spawn.start(places)))
    starting.start()
    wait_until(lambda: places.log.exists() and "does not answer" in places.log.read_text(), "the first one gave up")
    leaving.release()
    starting.join()
    assert listener(places.socket) == found[0]
    os.kill(found[0], signal.SIGTERM)
    assert spawn.wait_for_end(places, found[0], 20)


def test_the_started_daemon_outlives_and_serves_every_folder(places: Places) -> None:
    pid = spawn.start(places)
    try:
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        assert os.getsid(pid) == pid
        assert spawn.start(places) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: listener(places.socket) is None, "it ends")


def test_a_pull_that_is_cancelled_again_and_again_leaves_no_child(home: Path) -> None:
    def children() -> str:
        return Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text()

    async def scene() -> None:
        before = children()
        pulling = asyncio.ensure_future(anext(pull("smollm2-135m")))
        async with asyncio.timeout(20):
            while children() == before:
                await asyncio.sleep(0.01)
        for _ in range(3):
            pulling.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await pulling
        assert children() == before

    asyncio.run(scene())


async def _paged(total: int) -> list[int]:
    asked = list[int | None]()

    async def page(before: int | None) -> list:  # type: ignore[type-arg]
        asked.append(before)
        last = total if before is None else before - 1
        return [turn(number) for number in range(max(1, last - PAGE + 1), last + 1)]

    found = await every_turn(page)
    assert len(asked) == total // PAGE + 1
    return [one.id for one in found]


@pytest.mark.parametrize("total", [0, 1, PAGE, PAGE + 1, 3 * PAGE - 1])
def test_every_page_of_a_conversation_is_read_once_and_in_order(total: int) -> None:
    assert asyncio.run(_paged(total)) == list(range(1, total + 1))
