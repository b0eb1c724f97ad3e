"""Going back, writing again, versions and forks: what is on the screen, and what the history holds."""

from __future__ import annotations

import asyncio

import pytest
from textual import events

from assistant.client import Client
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import history, play, seed
from tests.tui.test_screens import names
from tui.options import Options
from tui.screens.pick import Pick
from tui.screens.switcher import Switcher
from tui.screens.why import WhyScreen
from tui.widgets.selectable import Selectable
from tui.widgets.turn import ReplyTurn, UserTurn


def selected(driver: Driver) -> Selectable:
    found = driver.app.focused
    assert isinstance(found, Selectable)
    return found


async def select(driver: Driver, steps: int = 0) -> None:
    """Select the last turn, then go so many up."""
    await driver.pilot.press("alt+up", *["up"] * steps)
    await driver.until(lambda: isinstance(driver.app.focused, Selectable), "a turn is selected")


async def begin_to_change(driver: Driver, text: str) -> None:
    """Say something, then bring it back into the prompt to be changed."""
    await driver.ask(text)
    await select(driver, 1)
    await driver.pilot.press("e")
    await driver.until(lambda: driver.prompt.text == text, "the text is in the prompt")


async def turns_of(name: str) -> list[tuple[str, int, int]]:
    async with await Client.connect(start=False) as client:
        return [(turn.text.split("\n")[0], turn.version, turn.versions) for turn in await client.turns(name)]


async def settled(driver: Driver, said: list[str]) -> None:
    await driver.until(lambda: driver.said == said and driver.chat.desk.idle, f"said {said}")


def test_escape_twice_goes_back_and_sending_makes_another_version(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        for text in ("one", "two", "three"):
            await driver.ask(text)
        for _ in range(2):
            driver.send(events.Key("escape", None))
        await driver.until(lambda: isinstance(driver.app.screen, Pick), "the list")
        await driver.pilot.press("up", "enter")
        await driver.until(lambda: driver.prompt.text == "two", "the text is in the prompt")
        await driver.sees("the old version stays")
        await driver.pilot.press(*" more", "enter")
        await settled(driver, ["one", "two more"])
        assert len(driver.replies) == 2
        await driver.sees("2/2")
        assert await turns_of("trip") == [("one", 1, 1), ("You said:", 1, 1), ("two more", 2, 2), ("You said:", 1, 1)]

    play(scenario, size=(100, 40))


def test_escape_before_and_after_a_list_is_not_twice(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.chat._TWICE_S", 600.0)

    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await driver.pilot.press("escape", "ctrl+s")
        await driver.until(lambda: isinstance(driver.app.screen, Switcher), "the list")
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.app.screen is driver.chat, "the chat")
        await driver.pilot.press("escape")
        await driver.settle()
        assert driver.app.screen is driver.chat

    play(scenario)


def test_a_turn_that_is_drawn_anew_is_still_the_one_that_is_changed(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await begin_to_change(driver, "one")
        await driver.chat.desk.opened.open("trip")
        await driver.pilot.press(*" more", "enter")
        await settled(driver, ["one more"])

    play(scenario)


def test_another_conversation_is_no_place_for_what_was_being_changed(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await begin_to_change(driver, "one")
        await driver.pilot.press(*" more")
        await driver.chat.desk.opened.open("elsewhere")
        assert driver.prompt.text == "one more"
        await driver.pilot.press("enter")
        await settled(driver, ["one more"])
        assert await turns_of("trip") == [("one", 1, 1), ("You said:", 1, 1)]
        assert await turns_of("elsewhere") == [("one more", 1, 1), ("You said:", 1, 1)]

    play(scenario)


def test_what_was_being_changed_and_is_gone_stays_in_the_prompt(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await begin_to_change(driver, "one")
        await driver.of(UserTurn)[0].remove()
        await driver.pilot.press(*" more", "enter")
        await driver.sees("not on the screen any more")
        assert driver.prompt.text == "one more"
        await driver.pilot.press("enter")
        await settled(driver, ["one more"])

    play(scenario)


def test_escape_leaves_the_old_version(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await select(driver, 1)
        await driver.pilot.press("e")
        assert driver.prompt.text == "one"
        await driver.pilot.press("escape")
        assert driver.prompt.text == ""
        await select(driver, 1)
        await driver.pilot.press("e")
        await driver.pilot.press("!", "escape")
        assert driver.prompt.text == "one!"
        assert driver.chat.branches.editing is None
        await driver.pilot.press("enter")
        await settled(driver, ["one", "one!"])

    play(scenario)


def test_the_last_reply_is_written_again(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await driver.pilot.press("f5")
        await driver.until(lambda: "2/2" in driver.screen_text and driver.chat.desk.idle, "another reply")
        assert (driver.said, len(driver.replies)) == (["one"], 1)
        assert [versions for *_, versions in await turns_of("trip")] == [1, 2]
        await driver.type("/regenerate")
        await driver.until(lambda: "3/3" in driver.screen_text and driver.chat.desk.idle, "one more")

    play(scenario)


def test_any_reply_is_written_again_and_versions_are_looked_at(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await driver.ask("two")
        await select(driver, 2)
        assert isinstance(selected(driver), ReplyTurn)
        await driver.pilot.press("r")
        await settled(driver, ["one"])
        await driver.until(lambda: "2/2" in driver.screen_text, "the second version")
        await select(driver)
        await driver.pilot.press("right")
        await driver.until(lambda: "the last of 2 versions" in driver.screen_text, "there is no third")
        await driver.pilot.press("left")
        await driver.until(lambda: driver.said == ["one", "two"] and "1/2" in driver.screen_text, "the first version")
        assert selected(driver).version == 1
        await driver.pilot.press("left")
        await driver.until(lambda: "the first of 2 versions" in driver.screen_text, "there is none before")
        await driver.pilot.press("l")
        await settled(driver, ["one"])

    play(scenario, size=(100, 40))


def test_a_fork_goes_its_own_way(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await driver.ask("two")
        await select(driver, 2)
        await driver.pilot.press("f")
        await driver.until(lambda: driver.chat.desk.name == "trip (2)", "the fork is open")
        assert driver.said == ["one"]
        await driver.sees("Forked “trip” as “trip (2)”, with 2 turns")
        await driver.ask("other")
        await driver.type("/fork copy")
        await driver.until(lambda: driver.chat.desk.name == "copy", "a copy of all")
        assert driver.said == ["one", "other"]
        assert len(await history("trip")) == 4
        await driver.type("/fork trip")
        await driver.until(lambda: "already a conversation 'trip'" in driver.screen_text, "a taken name")
        assert set(await names()) == {"trip", "trip (2)", "copy"}

    play(scenario)


def test_what_cannot_be_done_is_said(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        for command, sentence in (
            ("/rewind", "Nothing has been said"),
            ("/fork", "Nothing has been said"),
            ("/regenerate", "does not answer a message of yours"),
            ("/select", "Nothing has been said"),
        ):
            await driver.type(command)
            await driver.until(lambda sentence=sentence: sentence in driver.screen_text, command)  # type: ignore[misc]
        await driver.ask("one")
        await select(driver)
        await driver.pilot.press("e")
        await driver.until(lambda: "Only what you wrote yourself" in driver.screen_text, "a reply is not ours")
        await driver.pilot.press("c")
        await driver.until(lambda: "no block of code" in driver.screen_text, "no code")
        await driver.pilot.press("left")
        await driver.until(lambda: "one version of this turn" in driver.screen_text, "one version")
        await driver.pilot.press("i")
        await driver.type("slow")
        await driver.until(lambda: "Waiting for the gate" in driver.screen_text, "a reply is being written")
        for command in ("/rewind", "/fork", "/regenerate"):
            await driver.type(command)
            await driver.until(lambda: "Esc stops and keeps it" in driver.screen_text, command)
            driver.chat.notice("-")

    play(scenario)


def test_stepping_through_turns(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await select(driver, 2)
        assert selected(driver).said == "turn 37"
        await driver.pilot.press("k", "j", "y")
        assert driver.app.clipboard == "turn 37"
        await driver.until(lambda: "more below" in driver.screen_text or driver.transcript.at_end, "the hint")
        await driver.pilot.press("down", "down")
        assert selected(driver).said == "turn 39"
        await driver.pilot.press("down")
        assert driver.app.focused is driver.prompt
        for key in ("escape", "tab", "i"):
            await select(driver)
            await driver.pilot.press(key)
            assert driver.app.focused is driver.prompt
        await driver.pilot.press(*["ctrl+up", *["up"] * 60])
        assert selected(driver).said == "turn 0"

    asyncio.run(seed("trip", [f"turn {number}" for number in range(40)]))
    play(scenario)


def test_code_and_why_of_a_selected_turn(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await select(driver)
        await driver.pilot.press("c")
        assert driver.app.clipboard == "print(1)"
        await driver.sees("Copied the block of code: 8 characters.")
        await driver.pilot.press("w")
        await driver.until(lambda: isinstance(driver.app.screen, WhyScreen), "why")
        await driver.pilot.press("escape")
        assert driver.app.screen is driver.chat

    asyncio.run(seed("trip", ["code", "Look:\n\n```python\nprint(1)\n```"]))
    play(scenario)


def test_a_paste_on_a_turn_lands_in_the_prompt(daemon: RunningDaemon) -> None:
    from textual import events

    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await select(driver)
        selected(driver).post_message(events.Paste("some words"))
        await driver.until(lambda: driver.prompt.text == "some words", "the text is there")
        assert driver.app.focused is driver.prompt

    play(scenario)


def test_a_click_leaves_the_cursor_in_the_prompt(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await driver.pilot.click(driver.of(ReplyTurn)[0])
        assert driver.app.focused is driver.prompt

    play(scenario)


def test_a_version_that_cannot_be_sent_leaves_everything_as_it_was(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        await driver.ask("two")
        driver.app.session.options = Options(conversation="trip", quant="int7")
        await select(driver, 3)
        await driver.pilot.press("e")
        await driver.pilot.press("!", "enter")
        await driver.until(lambda: any("quant" in note for note in driver.notes), "it is said")
        assert driver.prompt.text == "one!"
        assert driver.said == ["one", "two"]
        assert all(turn.display for turn in driver.of(Selectable))
        await driver.pilot.press("f5")
        await driver.until(lambda: len(driver.notes) == 2 and driver.chat.desk.idle, "it is said again")
        assert driver.said == ["one", "two"]
        assert driver.prompt.text == "one!"
        assert len(await history("trip")) == 4

    play(scenario)


def test_reasoning_is_folded(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.sees("▸ reasoning · 4 words")
        await driver.sees("It is sunny")
        assert "what do they" not in driver.screen_text
        await driver.pilot.press("ctrl+t")
        await driver.until(lambda: "▾ reasoning" in driver.screen_text, "shown")
        await driver.sees("Hm, [b]what do they?")
        await driver.pilot.press("ctrl+t")
        await driver.until(lambda: "what do they" not in driver.screen_text, "folded")
        await driver.pilot.press("alt+up", "t")
        await driver.until(lambda: "what do they" in driver.screen_text, "this one is shown")
        await driver.pilot.press("y")
        assert driver.app.clipboard == "It is sunny."
        await driver.transcript.add(reply := ReplyTurn())
        for piece in ("<thi", "nk>one two", " three</th"):
            reply.feed(piece)
        await driver.until(lambda: "▸ thinking · 3 words" in driver.screen_text, "while it thinks")
        reply.feed("ink>\n\nSo: four.")
        await driver.until(lambda: "So: four." in driver.screen_text, "then it speaks")
        await reply.finish(None, "done")
        assert reply.said == "So: four."
        await driver.sees("▸ reasoning · 3 words")

    asyncio.run(seed("trip", ["weather?", "<think>\nHm, [b]what do they?\n</think>\n\nIt is sunny."]))
    play(scenario, size=(80, 40))
