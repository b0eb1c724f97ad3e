"""Removing turns: what begins to go is gone, whatever happens to the one who waits for it."""

from __future__ import annotations

import asyncio

from tests.conftest import RunningDaemon
from tests.tui.driver import Driver, chatting
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
