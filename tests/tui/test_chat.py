"""The chat screen against a real daemon process with a scripted worker: send, stop, errors, long texts, other sizes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Static

from assistant.client import Client
from assistant.protocol import ImportRequest, NewTurn
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver, chatting
from tui.options import Options
from tui.themes import DARK
from tui.widgets.transcript import PAGE
from tui.widgets.turn import NoteTurn, ReplyTurn

Scenario = Callable[[Driver], Coroutine[Any, Any, None]]
TRIP = Options(conversation="trip")


def play(scenario: Scenario, options: Options = TRIP, size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        async with chatting(options, size) as driver:
            await scenario(driver)

    asyncio.run(run())


async def seed(name: str, texts: list[str]) -> None:
    """Store turns as an import does, user and assistant in turn."""
    turns = [NewTurn(role="assistant" if at % 2 else "user", text=text) for at, text in enumerate(texts)]
    async with await Client.connect(start=False) as client:
        async for _ in client.import_turns(name, ImportRequest(turns=turns)):
            pass


async def history(name: str) -> list[tuple[str, str, str]]:
    async with await Client.connect(start=False) as client:
        return [(turn.role, turn.text, turn.state) for turn in await client.turns(name)]


def test_a_message_and_its_reply(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.sees("stays on this machine")
        await driver.type("good morning")
        assert driver.prompt.text == ""
        await driver.until(lambda: driver.chat.view.phase == "ready" and bool(driver.replies), "the reply is done")
        assert driver.said == ["good morning"]
        assert driver.replies[0].startswith("You said:\n\n> good morning")
        for words in ("trip", "one thing", "That is all.", "reused 0, read 12, wrote", "300 MiB", "100 tok/s", "ready"):
            await driver.sees(words)
        assert "stays on this machine" not in driver.screen_text
        assert driver.chat.styles.background.hex == str(DARK.background).upper()

    play(scenario)


def test_enter_sends_and_ctrl_j_breaks_the_line(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("enter", "o", "n", "e", "ctrl+j", "t", "w", "o", "enter")
        await driver.until(lambda: len(driver.replies) == 1, "the reply")
        assert driver.said == ["one\ntwo"]
        await driver.until(lambda: driver.chat.view.phase == "ready", "done")
        await driver.pilot.press("up")
        assert driver.prompt.text == "one\ntwo"

    play(scenario)


def test_escape_stops_and_keeps_what_was_written(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("slow")
        await driver.until(lambda: driver.replies == ["Waiting for the gate. "], "the first piece")
        assert driver.doing == "writing"
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.chat.view.phase == "ready", "stopped")
        assert driver.replies == ["Waiting for the gate. "]
        await driver.sees("interrupted")
        assert driver.notes == []
        assert (await history("trip"))[1] == ("assistant", "Waiting for the gate. ", "interrupted")
        await driver.ask("and now?")

    play(scenario)


def test_one_message_waits_and_a_second_is_refused(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        gate = tmp_path / "gate"
        await driver.type(f"slow {gate}")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        await driver.type("the second")
        await driver.until(lambda: "queued, leaves after this reply" in driver.screen_text, "it is shown as queued")
        await driver.type("the third")
        assert driver.prompt.text == "the third"
        await driver.sees("queued already")
        gate.touch()
        await driver.until(lambda: len(driver.replies) == 2 and driver.chat.view.phase == "ready", "both replies")
        assert [role for role, *_ in await history("trip")] == ["user", "assistant"] * 2
        assert "queued, leaves" not in driver.screen_text

    play(scenario)


def test_escape_gives_a_waiting_message_back(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("slow")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        await driver.type("not yet")
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.chat.view.phase == "ready", "stopped")
        assert driver.prompt.text == "not yet"
        assert driver.said == ["slow"]

    play(scenario)


def test_a_failure_is_a_sentence_and_the_prompt_goes_on(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("fail 5 The budget of 10 MiB cannot hold the weights.")
        await driver.until(lambda: bool(driver.notes), "the sentence")
        assert driver.notes == ["The budget of 10 MiB cannot hold the weights."]
        await driver.ask("hello again")

    play(scenario)


def test_text_that_cannot_be_sent_comes_back(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("please keep this")
        await driver.until(lambda: bool(driver.notes), "the sentence")
        assert driver.prompt.text == "please keep this"
        assert driver.said == []
        assert "quant" in driver.notes[0]

    play(scenario, Options(conversation="trip", quant="int7"))


def test_a_dead_worker_is_a_sentence(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("crash")
        await driver.until(lambda: bool(driver.notes), "the sentence")
        assert "These words were written" in driver.replies[0]
        await driver.sees("interrupted")
        await driver.ask("still there?")

    play(scenario)


def test_the_daemon_is_killed_in_mid_reply(start_daemon: Callable[..., RunningDaemon]) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("slow")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        killed.signal(signal.SIGKILL)
        await driver.until(lambda: driver.chat.view.phase == "offline", "the loss is noticed", seconds=2.0)
        assert "kept in the history" in driver.notes[0]
        assert driver.replies == ["Waiting for the gate. "]
        start_daemon()
        await driver.ask("are you back?")
        assert [state for *_, state in await history("trip")] == ["done", "interrupted", "done", "done"]

    killed = start_daemon()
    play(scenario)


def test_the_daemon_dies_between_two_messages(start_daemon: Callable[..., RunningDaemon]) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("one")
        killed.signal(signal.SIGKILL)
        start_daemon()
        await driver.ask("two")
        assert driver.notes == ["resumed in 0.31 s: 0 tokens reused, 74 recomputed (1.5 s): the worker is new"]

    killed = start_daemon()
    play(scenario)


def test_a_conversation_that_is_opened_comes_with_a_receipt(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("and now?")
        assert driver.notes == ["resumed in 0.31 s: 12 tokens reused, 0 recomputed"]
        await driver.sees("12 tokens reused, 0 recomputed")
        await driver.ask("nothing more to say")
        assert len(driver.notes) == 1
        await driver.pilot.press("ctrl+n")
        await driver.until(lambda: not driver.said, "a new conversation")
        await driver.ask("never read before")
        assert driver.notes == []

    asyncio.run(seed("trip", ["hello", "welcome"]))
    play(scenario)


def test_a_notice_is_shown_once_and_quietly(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        for _ in range(2):
            await driver.ask("notice The disk is full.")
        await driver.ask("notice It is full again.")
        notes = [note for note in driver.of(NoteTurn) if "full" in note.text]
        assert [note.text for note in notes] == ["The disk is full.", "It is full again."]
        assert all(note.has_class("-quiet") for note in notes)
        assert driver.replies == ["I go on."] * 3

    play(scenario)


def test_markup_and_escape_codes_are_characters(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("[bold red]not markup[/] [/nothing] [link=x] <b>html</b>")
        assert driver.screen_text.count("[bold red]not markup[/] [/nothing]") == 3  # title, message, reply
        assert "<b>html</b>" in driver.replies[0]
        assert driver.screen_text.count("<b>html</b>") == 3
        await driver.ask("escape")
        assert driver.replies[1] == "before red after"

    play(scenario, size=(100, 40))


def test_a_paste_of_a_megabyte(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        big = "long word " * 100_000 + "\x1b[31m\x00"
        driver.prompt.post_message(events.Paste(big))
        await driver.until(lambda: "1,000,000 characters" in driver.prompt.text, "a marker stands for it")
        await driver.sees("control characters")
        await driver.pilot.press("!", "enter")
        await driver.until(lambda: bool(driver.said), "sent")
        assert driver.said == ["long word " * 100_000 + "!"]
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.chat.view.phase == "ready", "done")
        assert (await history("trip"))[0][1] == driver.said[0]
        assert "more characters, stored in full" in str(driver.transcript.query(".foot").first(Static).content)
        await driver.pilot.press("up")
        assert "characters]" in driver.prompt.text

    play(scenario)


def test_resize_while_a_reply_is_written(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        gate = tmp_path / "gate"
        await driver.type(f"slow {gate}")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        for size in ((40, 10), (12, 4), (120, 40), (80, 24)):
            await driver.pilot.resize_terminal(*size)
        gate.touch()
        await driver.until(lambda: driver.chat.view.phase == "ready", "done")
        assert driver.replies == ["Waiting for the gate. The gate is open."]
        await driver.sees("The gate is open.")

    play(scenario)


@pytest.mark.parametrize("size", [(40, 10), (20, 6), (200, 60)])
def test_other_sizes(daemon: RunningDaemon, size: tuple[int, int]) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello there")
        for key in ("f1", "escape", "ctrl+s", "escape", "pageup", "pagedown"):
            await driver.pilot.press(key)
        assert driver.app.screen is driver.chat

    play(scenario, size=size)


def test_only_a_page_of_turns_is_drawn_until_more_is_asked_for(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        turns = len(driver.said) + len(driver.replies)
        assert turns == PAGE
        await driver.sees("turn 129")
        await driver.pilot.press("ctrl+o")
        await driver.until(lambda: len(driver.said) + len(driver.replies) == 2 * PAGE, "a page more")
        await driver.pilot.press("ctrl+o")
        await driver.until(lambda: driver.said[:1] == ["turn 0"], "the first turn")
        await driver.pilot.press("ctrl+o")
        await driver.sees("no older turns")
        assert driver.replies[-1] == "turn 129"
        await driver.type("and on we go")
        await driver.until(lambda: "> and on we go" in driver.replies[-1], "the reply")
        await driver.until(lambda: "That is all." in driver.screen_text, "the end is in sight")
        assert len(driver.said) + len(driver.replies) == PAGE + 1
        assert driver.transcript.hidden == 132 - PAGE - 1

    asyncio.run(seed("trip", [f"turn {number}" for number in range(130)]))
    play(scenario)


def test_scrolling_up_is_not_undone_by_new_text(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        gate = tmp_path / "gate"
        await driver.type(f"slow {gate}")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        await driver.pilot.press("pageup")
        place = driver.transcript.scroll_y
        await driver.until(lambda: "· ^end" in driver.screen_text, "the hint")
        gate.touch()
        await driver.until(lambda: driver.chat.view.phase == "ready", "done")
        assert driver.transcript.scroll_y == place
        await driver.pilot.press("ctrl+end")
        await driver.until(lambda: driver.transcript.at_end and "· ^end" not in driver.screen_text, "at the end")

    asyncio.run(seed("trip", [f"turn {number}" for number in range(40)]))
    play(scenario)


def test_an_open_fence_does_not_vanish(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.transcript.add(reply := ReplyTurn())
        reply.feed("Look:\n\n```python\nprint(1")
        await driver.until(lambda: "print(1" in driver.screen_text, "it is drawn while it grows")
        await reply.finish(None, "interrupted")
        await driver.pilot.pause()
        await driver.sees("print(1")
        await driver.sees("interrupted")

    play(scenario)


def test_ctrl_c_stops_and_twice_quits(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("slow")
        await driver.until(lambda: bool(driver.replies), "the first piece")
        await driver.pilot.press("ctrl+c")
        await driver.until(lambda: driver.chat.view.phase == "ready", "stopped")
        await driver.sees("Ctrl+C again quits")
        await driver.pilot.press("ctrl+c")
        await driver.until(lambda: driver.app.return_code is not None, "quit")
        assert driver.app.return_code == 130

    play(scenario)


def test_the_help_names_the_keys_that_are_bound(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f1")
        await driver.pilot.pause()
        text = driver.screen_text
        for words in ("^n", "New conversation", "esc", "Stop the reply and keep it", "^j", "New line", "Rename"):
            assert words in text

    play(scenario, size=(80, 110))


def test_what_a_tool_gave_back_is_one_line_until_it_is_opened(daemon: RunningDaemon) -> None:
    result = "23 degrees [b]and[/b] sunny\n\x1b[31msecond line"

    async def scene() -> None:
        async with await Client.connect(start=False) as client:
            await client.store("agent", [NewTurn(role="user", text="Weather?"), NewTurn(role="tool", text=result)])
        async with chatting(Options(conversation="agent")) as driver:
            await driver.sees("▸ tool result · 6 words")
            assert "sunny" not in driver.screen_text
            await driver.pilot.press("alt+up", "t")
            await driver.sees("23 degrees [b]and[/b] sunny")
            await driver.sees("second line")

    asyncio.run(scene())
