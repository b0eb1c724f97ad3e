"""What bad input and bad luck get in the chat: a calm result each."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from textual.geometry import Size

from assistant.places import Places
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver, chatting
from tests.tui.test_chat import TRIP, history, play, seed
from tui.program import ChatApp

WIDE = "渡し船は九時に出ます。犬も一緒です。 👩‍👩‍👧 🇩🇪 é ｶﾀｶﾅ 한국어 " * 6


def widths(driver: Driver) -> set[int]:
    """How wide the lines on the screen are."""
    return {strip.cell_length for strip in driver.app.screen._compositor.render_strips()}


def test_two_chats_on_one_conversation(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def run() -> None:
        async with chatting(TRIP) as one, chatting(TRIP) as two:
            gate = tmp_path / "gate"
            await one.type(f"slow {gate}")
            await one.until(lambda: one.replies == ["Waiting for the gate. "], "the first piece")
            await two.type("me too")
            await two.until(lambda: two.chat.view.phase in ("accepted", "queued"), "it waits for the first")
            gate.touch()
            for driver in (one, two):
                await driver.until(lambda driver=driver: driver.chat.desk.idle, "both have their reply")
            assert not [note for note in one.notes + two.notes if not note.startswith("resumed in")]
            assert "> me too" in two.replies[-1]
            await one.ask("and on we go")
        assert [role for role, *_ in await history("trip")] == ["user", "assistant"] * 3

    asyncio.run(run())


def test_wide_characters_stay_in_their_lines(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask(WIDE)
        driver.prompt.insert(WIDE)
        for width in (80, 33, 10):
            driver.resize(Size(width, 24))
            await driver.until(lambda width=width: widths(driver) == {width}, f"every line is {width} cells wide")
        assert driver.prompt.message == WIDE

    play(scenario)


def test_escape_codes_and_brackets_in_everything_that_is_shown(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        assert driver.screen_text.count("[bold]a\\[/] [/x]") >= 2  # the message and the reply
        assert "\x1b" not in driver.screen_text + driver.app.export_screenshot()
        await driver.pilot.press("ctrl+s")
        await driver.until(lambda: "1 of 1" in driver.screen_text, "the list")
        await driver.sees("[bold]a")

    asyncio.run(seed("trip", ["[bold]a\\[/] [/x] \x1b[31mred", "[bold]a\\[/] [/x] \x1b]0;title\x07\x9b31m"]))
    play(scenario, size=(120, 40))


def test_a_history_of_a_newer_version_is_a_sentence(places: Places) -> None:
    async def run() -> None:
        app = ChatApp(TRIP)
        async with app.run_test() as pilot:
            driver = Driver(app, pilot)
            await driver.until(lambda: driver.chat.view.phase == "offline", "it is said")
            assert "newer version of the assistant wrote it (m999_more)" in driver.notes[0]
            await driver.type("please keep this")
            await driver.until(lambda: len(driver.notes) == 2, "it is said again")
            assert driver.prompt.text == "please keep this"
            await driver.quit()

    places.data.mkdir(parents=True, mode=0o700)
    database = sqlite3.connect(places.history)
    with database:
        database.execute("create table _sqlite_migrations (migration_set text, name text, applied_at text)")
        database.execute("insert into _sqlite_migrations values ('history', 'm999_more', '2030-01-01')")
    database.close()
    asyncio.run(run())
