"""Monkeys: whatever is pressed, pasted, resized or killed, the chat goes on, loses no text, and can be left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from assistant.daemon import spawn
from assistant.daemon.probe import listener
from assistant.places import Places, find_places
from tests.conftest import FAKE_DAEMON, enter_home
from tests.home import make_home
from tests.tui.driver import chatting
from tests.tui.monkey import Monkey
from tui.options import Options

SEEDS = range(int(os.environ.get("MONKEYS", "50")))


@pytest.fixture(scope="session")
def jungle() -> Iterator[Path]:
    """A home that all monkeys share; daemons that are left in it are ended."""
    home = make_home()
    yield home
    socket = find_places({"ASSISTANT_HOME": str(home)}).socket
    if (pid := listener(socket)) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def places(jungle: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """The home of the monkeys; a chat that finds no daemon there starts one with the scripted worker."""
    enter_home(jungle, monkeypatch)
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.chdir(jungle)  # where it exports to
    monkeypatch.setattr(spawn, "COMMAND", (sys.executable, "-P", str(FAKE_DAEMON)))
    return find_places()


def _waiting() -> str:
    """Where every task stands: what a chat that hangs waits for."""
    return "\n".join(f"{task.get_name()}: {' < '.join(_frames(task.get_coro()))}" for task in asyncio.all_tasks())


def _frames(waiting: Any) -> Iterator[str]:
    """The innermost first."""
    if (inner := getattr(waiting, "cr_await", None)) is not None:
        yield from _frames(inner)
    if (frame := getattr(waiting, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_qualname}:{frame.f_lineno}"


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_a_monkey_does(places: Places, seed: int) -> None:
    async def run() -> None:
        async with chatting(Options(conversation=f"monkey {seed}")) as driver:
            monkey = Monkey(driver, places, seed)
            try:
                await monkey.play()
                assert not [note for note in driver.notes if "Internal error" in note]
                await driver.quit()
            except BaseException as error:
                error.add_note(f"seed {seed}; the last it did: {monkey.diary[-40:]}\n{_waiting()}")
                raise

    asyncio.run(run())
