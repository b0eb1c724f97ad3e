"""The chat meets a daemon of another version: it asks whether to restart it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator

import pytest

from assistant.daemon.probe import holder
from assistant.places import Places
from assistant.protocol import PROTOCOL
from tests.assistant.talk import other_daemon
from tests.tui.driver import DEADLINE_S, Driver
from tui.program import ChatApp
from tui.screens.dialogs import AskYes


@pytest.fixture
def newer(places: Places) -> Iterator[subprocess.Popen[bytes]]:
    """A newer daemon, and the end of whatever took its place."""
    with other_daemon(places, PROTOCOL + 1) as process:
        yield process


async def asked(scene: Callable[[Driver], Awaitable[None]]) -> None:
    app = ChatApp()
    async with app.run_test(size=(80, 24)) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: isinstance(app.screen, AskYes), "it asks")
        await driver.sees("is newer than")
        await scene(driver)


def test_a_yes_restarts_it_and_the_chat_goes_on(newer: subprocess.Popen[bytes], places: Places) -> None:
    async def scene(driver: Driver) -> None:
        await driver.pilot.press("y")
        await driver.ready()
        assert driver.notes == []

    asyncio.run(asked(scene))
    assert newer.wait(DEADLINE_S) == -signal.SIGTERM
    assert holder(places.lock) not in (None, newer.pid)


def test_a_no_leaves_it_and_says_what_to_run(newer: subprocess.Popen[bytes]) -> None:
    async def scene(driver: Driver) -> None:
        await driver.pilot.press("escape")
        await driver.until(lambda: bool(driver.notes), "the sentence")
        assert driver.notes[0].endswith("Run: assistant daemon restart")
        assert driver.chat.view.phase == "offline"

    asyncio.run(asked(scene))
    assert newer.poll() is None
