"""What the monkeys found, shrunk: terminals too small for a list, keys twice at once, turns that hardly existed."""

from __future__ import annotations

from textual import events
from textual.geometry import Size

from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import play
from tui.screens.switcher import Switcher
from tui.widgets.turn import ReplyTurn, UserTurn

PAGES = ("pageup", "pagedown", "home", "end")


def test_a_dialog_that_is_left_twice_takes_only_itself_along(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("ctrl+s")
        await driver.until(lambda: isinstance(driver.app.screen, Switcher), "the list")
        for key in ("f1", "escape", "escape", "escape"):
            driver.send(events.Key(key, None))
        await driver.until(lambda: driver.app.screen is driver.chat, "the chat")
        await driver.ask("still here")

    play(scenario)


def test_lists_that_are_not_in_sight_can_be_paged(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        for opening in ("ctrl+p", "ctrl+s"):
            driver.resize(Size(80, 24))
            await driver.pilot.press(opening, "tab", "down")
            for size in (Size(10, 3), Size(1, 1)):
                driver.resize(size)
                await driver.pilot.press(*PAGES)
            await driver.pilot.press("escape", "escape")
        await driver.until(lambda: driver.app.screen is driver.chat, "the chat")

    play(scenario)


def test_a_turn_may_go_before_it_was_drawn(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        for turn in (UserTurn("hello", waits="queued"), ReplyTurn("a reply")):
            driver.transcript.show(turn)
            await turn.remove()
        await driver.ask("still here")

    play(scenario)


def test_a_click_on_what_is_just_gone(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        turn = driver.of(UserTurn)[0]
        x, y = turn.query_one(".said").region.offset
        gone = turn.remove()
        await driver.app.on_event(events.MouseDown(None, x, y, 0, 0, 1, False, False, False))
        await gone
        await driver.ask("still here")

    play(scenario)
