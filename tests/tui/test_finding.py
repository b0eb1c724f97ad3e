"""Search over all conversations, and going to a turn in a long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList

from assistant.client import Client
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_branches import selected
from tests.tui.test_chat import play, seed
from tests.tui.test_screens import names
from tui.options import Options
from tui.screens.search import SearchScreen
from tui.widgets.selectable import Selectable

TRIP = Options(conversation="trip")


@pytest.fixture
def two(daemon: RunningDaemon) -> RunningDaemon:
    """A long conversation with one needle far up, and a short one."""

    async def fill() -> None:
        long = [f"turn {number}" for number in range(700)]
        long[101] = "the [b]needle[/b] is here"
        await seed("work", long)
        await seed("trip", ["My dog is called Biscuit.", "A fine name."])

    asyncio.run(fill())
    return daemon


async def search(driver: Driver, words: str, found: str) -> None:
    await driver.pilot.press("ctrl+f")
    await driver.until(lambda: isinstance(driver.app.screen, SearchScreen), "the search")
    await driver.pilot.press(*words)
    await driver.until(lambda: found in driver.screen_text, f"found {found!r}")


def test_a_hit_opens_the_conversation_at_its_turn(two: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await search(driver, "needle", "1 turn found")
        await driver.sees("work · reply")
        await driver.sees("the [b][needle][/b] is here")
        await driver.pilot.press("enter")
        await driver.until(lambda: isinstance(driver.app.focused, Selectable), "the turn is selected")
        assert driver.chat.desk.name == "work"
        assert selected(driver).said == "the [b]needle[/b] is here"
        assert driver.transcript.newer == 595
        assert driver.transcript.hidden == 700 - 595 - len(driver.of(Selectable))
        await driver.pilot.press("ctrl+end")
        await driver.until(lambda: driver.replies[-1] == "turn 699", "the end")
        assert not driver.transcript.newer

    play(scenario, TRIP)


def test_a_message_goes_to_the_end_whatever_is_on_the_screen(two: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await search(driver, "needle", "1 turn found")
        await driver.pilot.press("enter")
        await driver.until(lambda: isinstance(driver.app.focused, Selectable), "the turn is selected")
        await driver.pilot.press("escape")
        await driver.ask("and now?")
        await driver.until(lambda: "That is all." in driver.screen_text, "the end is in sight")
        assert driver.said[-2:] == ["turn 698", "and now?"]
        assert not driver.transcript.newer

    play(scenario, TRIP)


def test_searching_while_typing(two: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await search(driver, "turn", "The first 50 turns found")
        driver.app.screen.query_one(Input).value = "biscuits"
        await driver.until(lambda: "Nothing found" in driver.screen_text, "nothing")
        await driver.pilot.press("enter")
        await driver.pilot.press("end", "backspace")
        await driver.until(lambda: "1 turn found" in driver.screen_text, "the beginning of a word")
        await driver.pilot.press("escape")
        assert driver.app.screen is driver.chat
        assert driver.chat.desk.name == "trip"
        await driver.type("/search turn 1")
        await driver.until(lambda: "turns found" in driver.screen_text, "from the command")
        options = driver.app.screen.query_one(OptionList)
        await driver.pilot.press("down", "down", "up", "pagedown", "pageup")
        assert options.highlighted == 1

    play(scenario, TRIP)


def test_a_hit_in_another_version_shows_that_version(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("wombats")
        await driver.pilot.press("alt+up", "up", "e")
        driver.prompt.clear_all()
        await driver.type("penguins")
        await driver.until(lambda: driver.said == ["penguins"] and driver.chat.desk.idle, "the new version")
        await search(driver, "wombats", "found")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.said == ["wombats"], "the old version")

    play(scenario, TRIP)


def test_the_pill_counts_the_new_lines(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        gate = tmp_path / "gate"
        await driver.type(f"slow {gate}")
        await driver.until(lambda: "Waiting for the gate" in driver.screen_text, "the first piece")
        await driver.pilot.press("pageup")
        await driver.until(lambda: "more below · ^end" in driver.screen_text, "nothing new yet")
        gate.touch()
        await driver.until(lambda: driver.chat.desk.idle, "done")
        await driver.type("hello")
        await driver.until(lambda: driver.chat.desk.idle and len(driver.replies) > 20, "done")
        await driver.pilot.press("pageup")
        await driver.transcript.add(driver.of(Selectable)[0].__class__("one\ntwo\nthree"))
        await driver.until(lambda: "4 new lines · ^end" in driver.screen_text, "they are counted")
        await driver.pilot.click("#activity", offset=(70, 0))
        await driver.until(lambda: driver.transcript.at_end and "new lines" not in driver.screen_text, "at the end")

    asyncio.run(seed("trip", [f"turn {number}" for number in range(40)]))
    play(scenario, TRIP)


def test_commands_about_the_open_conversation(two: RunningDaemon) -> None:
    async def away() -> list[str]:
        async with await Client.connect(start=False) as client:
            return [one.name for one in await client.conversations(removed=True)]

    async def scenario(driver: Driver) -> None:
        await driver.type("/duplicate copy")
        await driver.until(lambda: "once more as “copy”" in driver.screen_text, "duplicated")
        assert driver.chat.desk.name == "trip"
        await driver.type("/pin")
        await driver.until(lambda: "stays on top" in driver.screen_text, "pinned")
        assert (await names())[0] == "trip"
        await driver.type("/archive")
        await driver.until(lambda: "is archived" in driver.screen_text, "archived")
        assert "trip" not in await names()
        await driver.type("/archive")
        await driver.until(lambda: "back in the list" in driver.screen_text, "back")
        await driver.type("/delete")
        await driver.until(lambda: driver.chat.desk.name != "trip", "another one is open")
        assert await away() == ["trip"]
        await driver.type("/restore trip")
        await driver.until(lambda: driver.chat.desk.name == "trip", "it is back")
        assert await away() == []

    play(scenario, TRIP)
