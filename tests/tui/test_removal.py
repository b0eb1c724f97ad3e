"""Removing turns: what begins to go is gone, whatever happens to the one who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from textual import events
from textual.command import CommandList, DiscoveryHit, Hits
from textual.widgets import Static

from tests.conftest import RunningDaemon
from tests.tui.driver import DEADLINE_S, Driver, chatting
from tui.palette import Commands, Palette
from tui.widgets.turn import UserTurn


def test_turns_go_although_the_one_who_removes_them_is_replaced(daemon: RunningDaemon) -> None:
    async def scenario() -> None:
        async with chatting() as driver:
            turns = [UserTurn(f"turn {number}") for number in range(20)]
            await driver.transcript.mount_all(turns, before="#newer")
            removing = driver.chat.run_worker(driver.transcript.query(UserTurn).remove().__call__())
            while all(turn.is_running for turn in turns) and not removing.is_finished:
                await asyncio.sleep(0)
            removing.cancel()
            await driver.until(lambda: driver.said == [], "they are gone")
            await answers(driver)

    asyncio.run(scenario())


def test_a_turn_that_is_cancelled_while_it_goes_takes_nobody_along(daemon: RunningDaemon) -> None:
    async def scenario() -> None:
        async with chatting() as driver:
            await driver.transcript.mount(turn := UserTurn("gone"), before="#newer")
            turn.remove()
            assert turn._task is not None
            while not turn._closing:
                await asyncio.sleep(0)
            turn._task.cancel()
            await asyncio.wait([turn._task])
            await driver.until(lambda: driver.app._running and not driver.app._closed, "the app lives")
            driver.send(events.Key("x", "x"))
            await driver.until(lambda: driver.prompt.text == "x", "it hears keys")

    asyncio.run(scenario())


def test_a_conversation_is_shown_whole_although_the_next_key_replaces_what_opened_it(daemon: RunningDaemon) -> None:
    async def scenario() -> None:
        async with chatting() as driver:
            await driver.ask("one")
            name = driver.chat.desk.name
            assert name is not None
            opening = driver.chat.run_worker(driver.chat.desk.opened.open(name))
            await driver.until(lambda: driver.said == [] or opening.is_finished, "the old turns go")
            opening.cancel()
            await driver.until(lambda: driver.said == ["one"] and len(driver.replies) == 1, "shown whole")
            await answers(driver)

    asyncio.run(scenario())


async def answers(driver: Driver) -> None:
    """Every widget still handles what it is sent."""
    await driver.settle()
    await driver.ask("Are you there?")


def test_a_palette_that_still_gathers_can_be_left(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    last_found = asyncio.Event()

    async def discover(self: Commands) -> Hits:
        yield DiscoveryHit("the first", print)
        await last_found.wait()

    monkeypatch.setattr(Commands, "discover", discover)

    async def scenario() -> None:
        async with chatting() as driver:
            driver.app.action_command_palette()
            await driver.until(lambda: isinstance(driver.app.screen, Palette), "the palette")
            palette = driver.app.screen
            await palette.mount(slow := SlowToGo())
            gathering = next(one for one in driver.app.workers if one.name == "_gather_commands")
            leaving = asyncio.ensure_future(palette.remove().__call__())
            await happens(lambda: not palette.query(CommandList))
            last_found.set()
            await happens(lambda: gathering.is_finished)
            slow.may_go.set()
            await leaving
            await driver.quit()

    asyncio.run(scenario())


class SlowToGo(Static):
    """Keeps its screen from ending after everything else in it has."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = asyncio.Event()

    async def on_unmount(self) -> None:
        await self.may_go.wait()


async def happens(true: Callable[[], bool]) -> None:
    """Wait for it while widgets are on their way out and answer nothing."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.01)
