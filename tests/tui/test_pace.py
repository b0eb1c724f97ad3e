"""A growing reply is drawn between the keys of somebody who types, and what stands is not drawn again."""

from __future__ import annotations

import asyncio

from textual.widgets import Markdown

from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import play
from tui.pace import TYPING_S, Pace
from tui.widgets.turn import ReplyTurn


def test_nobody_waits_for_who_does_not_type() -> None:
    async def run() -> None:
        pace = Pace()
        async with asyncio.timeout(TYPING_S / 2):
            await pace.gap()
        assert pace.quiet
        assert not pace.interval

    asyncio.run(run())


def test_a_drawing_waits_for_the_echo_of_a_key() -> None:
    async def run() -> None:
        pace = Pace()
        pace.typed()
        drawing = asyncio.create_task(pace.gap())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not drawing.done()
        assert not pace.quiet
        assert pace.interval > 0
        pace.echoed()
        async with asyncio.timeout(TYPING_S / 2):
            await drawing

    asyncio.run(run())


def test_a_key_without_an_echo_holds_nothing_up() -> None:
    async def run() -> None:
        pace = Pace()
        pace.typed()
        async with asyncio.timeout(20 * TYPING_S):
            await pace.gap()

    asyncio.run(run())


def test_the_end_of_a_reply_leaves_what_was_drawn(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        turn = ReplyTurn()
        driver.transcript.show(turn)
        await driver.until(lambda: turn.is_mounted, "the turn")
        turn.feed("# First\n\nsecond\n\nthird")
        body = turn.query_one(Markdown)
        await driver.until(lambda: len(body.children) == 3, "three blocks")
        drawn = list(body.children)[:2]
        await turn.finish("# First\n\nsecond\n\nthird and last", "done")
        await driver.sees("third and last")
        assert list(body.children)[:2] == drawn
        assert len(body.children) == 3

    play(scenario)
