"""The screens over the chat: switcher, questions, model download; against a real daemon and a real model store."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from textual.widgets import Input

from assistant.client import Client
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import play, seed
from tui.commands import COMMANDS
from tui.options import Options
from tui.screens.dialogs import AskLine
from tui.screens.pull import PullScreen
from tui.screens.switcher import ConversationList, Switcher
from tui.session import free_name

NO_OPTIONS = Options()


async def names() -> list[str]:
    async with await Client.connect(start=False) as client:
        return [one.name for one in await client.conversations()]


async def open_list(driver: Driver) -> Switcher:
    await driver.pilot.press("ctrl+s")
    await driver.until(lambda: isinstance(driver.app.screen, Switcher), "the switcher")
    switcher = driver.app.screen
    assert isinstance(switcher, Switcher)
    options = switcher.query_one(ConversationList)
    await driver.until(lambda: options.option_count > 0, "the list")
    return switcher


@pytest.fixture
def three(daemon: RunningDaemon) -> RunningDaemon:
    """Three conversations; `trip` is the one used last."""

    async def fill() -> None:
        await seed("work", ["What is due on Monday?", "The report."])
        await seed("[red]dog", ["My dog is called Biscuit."])
        await seed("trip", ["I live in Lisbon.", "A fine town.", "It is."])

    asyncio.run(fill())
    return daemon


def test_the_last_conversation_is_resumed(three: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        assert driver.chat.desk.name == "trip"
        assert driver.said == ["I live in Lisbon.", "It is."]
        assert driver.replies == ["A fine town."]
        await driver.pilot.press("up")
        assert driver.prompt.text == "It is."
        await driver.pilot.press("up")
        assert driver.prompt.text == "I live in Lisbon."
        await driver.pilot.press("down", "down")
        assert driver.prompt.text == ""

    play(scenario, NO_OPTIONS)


def test_the_first_conversation_is_called_chat(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        assert await names() == ["chat"]
        await driver.until(lambda: driver.screen_text.startswith("   chat  hello"), "the title says what it is about")
        await driver.pilot.press("ctrl+n")
        await driver.until(lambda: driver.chat.desk.name == "chat 2", "a new conversation")
        assert driver.said == []
        await driver.sees("stays on this machine")
        await driver.ask("hello again")
        assert set(await names()) == {"chat", "chat 2"}

    play(scenario, NO_OPTIONS)


def test_filter_and_open(three: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        switcher = await open_list(driver)
        text = driver.screen_text
        for words in ("3 of 3", "[red]dog", "1 turn", "3 turns", "• trip"):
            assert words in text
        switcher.query_one(Input).value = "WOR"
        await driver.until(lambda: "1 of 3" in driver.screen_text, "the filter")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.chat.desk.name == "work", "the other conversation")
        assert driver.said == ["What is due on Monday?"]
        switcher = await open_list(driver)
        await driver.pilot.press("down", "slash", "t", "r")
        assert switcher.query_one(Input).value == "tr"
        await driver.until(lambda: "1 of 3" in driver.screen_text, "the filter again")
        await driver.pilot.press("escape")
        assert driver.app.screen is driver.chat

    play(scenario, NO_OPTIONS)


async def rename_to(driver: Driver, name: str) -> None:
    await driver.pilot.press("r")
    await driver.until(lambda: isinstance(driver.app.screen, AskLine), "the question")
    driver.app.screen.query_one(Input).value = name
    await driver.pilot.press("enter")
    await driver.until(lambda: isinstance(driver.app.screen, Switcher), "answered")


def test_rename(three: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await open_list(driver)
        await driver.pilot.press("down")
        await rename_to(driver, "work")
        await driver.until(lambda: "already a conversation 'work'" in driver.screen_text, "a taken name is a sentence")
        await rename_to(driver, "Lisbon")
        await driver.until(lambda: "• Lisbon" in driver.screen_text, "the new name")
        assert "already" not in driver.screen_text
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.chat.desk.name == "Lisbon", "the open one goes on under its new name")
        await driver.ask("still here")
        assert set(await names()) == {"Lisbon", "work", "[red]dog"}

    play(scenario, NO_OPTIONS)


def test_delete_and_undo(three: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await open_list(driver)
        await driver.pilot.press("down", "u")
        await driver.until(lambda: "Nothing was deleted here" in driver.screen_text, "nothing to undo")
        await driver.pilot.press("d")
        await driver.until(lambda: "2 of 2" in driver.screen_text, "it is gone")
        await driver.sees("“trip” is put away")
        assert "trip" not in await names()
        await driver.pilot.press("u")
        await driver.until(lambda: "3 of 3" in driver.screen_text and "“trip” is back" in driver.screen_text, "back")
        await driver.sees("• trip")
        await driver.pilot.press("d")
        await driver.until(lambda: "2 of 2" in driver.screen_text, "it is gone again")
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.chat.desk.name == "[red]dog", "another one is opened instead")

    play(scenario, NO_OPTIONS)


def test_pin_and_archive(three: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await open_list(driver)
        await driver.pilot.press("down", "down", "down", "p")
        await driver.until(lambda: "pinned" in driver.screen_text, "pinned")
        assert (await names())[0] == "work"
        await driver.until(lambda: driver.screen_text.index("work") < driver.screen_text.index("• trip"), "on top")
        await driver.pilot.press("home", "p")
        await driver.until(lambda: "  pinned" not in driver.screen_text, "no longer")
        await driver.pilot.press("home", "a")
        await driver.until(lambda: "“trip” is archived" in driver.screen_text, "archived")
        await driver.until(lambda: "2 of 2" in driver.screen_text, "not in the list")
        await driver.pilot.press("v")
        await driver.until(lambda: "3 of 3" in driver.screen_text and "archived" in driver.screen_text, "shown")
        await driver.pilot.press("end", "a", "v")
        await driver.until(lambda: "3 of 3" in driver.screen_text, "no longer archived")

    play(scenario, NO_OPTIONS)


def test_changing_waits_for_the_reply(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("slow")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        for key in ("ctrl+s", "ctrl+n"):
            await driver.pilot.press(key)
            await driver.until(lambda: "Esc stops and keeps it" in driver.screen_text, "the reason")
        assert driver.app.screen is driver.chat
        assert driver.chat.desk.name == "chat"

    play(scenario, NO_OPTIONS)


def test_a_missing_model_is_fetched_first(home: Path, start_daemon: object, daemon: RunningDaemon) -> None:
    """The store lacks the default model, whose source is a folder that is not there either: the pull must fail."""
    shutil.rmtree(home / "fake")

    async def run() -> None:
        from tui.program import ChatApp

        app = ChatApp(NO_OPTIONS)
        async with app.run_test(size=(80, 24)) as pilot:
            driver = Driver(app, pilot)
            await driver.until(lambda: isinstance(app.screen, PullScreen), "the screen of the first run")
            await driver.sees("fake is not on this machine yet")
            await driver.until(lambda: "r tries again" in driver.screen_text, "why it failed")
            await pilot.press("escape")
            await driver.until(lambda: bool(driver.notes), "the reason is in the transcript")
            assert app.screen is driver.chat
            await driver.type("hello")
            await driver.until(lambda: isinstance(app.screen, PullScreen), "a message asks for it again")
            await pilot.press("escape")
            await driver.until(lambda: driver.prompt.text == "hello", "the text is back")

    asyncio.run(run())


def test_names_of_new_conversations() -> None:
    assert [free_name(taken) for taken in (set(), {"chat"}, {"chat", "chat 2"}, {"chat 2"})] == [
        "chat",
        "chat 2",
        "chat 3",
        "chat",
    ]


def test_the_whole_list_of_keys_can_be_read_on_a_small_terminal(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f1")
        await driver.sees("esc closes")
        await driver.pilot.press("end")
        await driver.sees(f"/{COMMANDS[-1].name}")

    play(scenario)
