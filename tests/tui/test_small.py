"""What the monkeys found, shrunk: terminals too small for a list, keys twice at once, turns that hardly existed."""

from __future__ import annotations

from textual import events
from textual.geometry import Size

from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import play
from tui.palette import Palette
from tui.screens.search import SearchScreen
from tui.screens.switcher import Switcher
from tui.widgets.line import LONGEST, Line
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
            await driver.pilot.press(opening)
            await driver.until(lambda: driver.app.screen is not driver.chat, "the list")
            await driver.pilot.press("tab", "down")
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


def test_a_reply_that_ends_before_it_was_drawn_is_drawn_whole(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        turn = ReplyTurn()
        driver.transcript.show(turn)
        turn.feed("the first")
        await turn.finish("the first and the last", "done")
        await driver.until(lambda: "the first and the last" in driver.screen_text, "all of it")

    play(scenario)


def test_a_choice_that_is_made_twice_is_one(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        await driver.pilot.press("ctrl+s")
        await driver.until(lambda: "1 of 1" in driver.screen_text, "the list")
        listed = driver.app.screen
        assert isinstance(listed, Switcher)
        listed.dismiss("trip")
        listed.dismiss("trip")
        await driver.until(lambda: driver.app.screen is driver.chat, "the chat")
        await driver.ask("still here")

    play(scenario)


def test_the_palette_is_opened_once(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        for _ in range(3):
            driver.app.action_command_palette()
        await driver.pilot.press("f1", "escape", "escape")
        await driver.until(lambda: driver.app.screen is driver.chat, "the chat")
        await driver.ask("still here")

    play(scenario)


def test_a_click_into_the_palette_that_the_terminal_has_no_room_for_any_more(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("ctrl+p")
        await driver.until(lambda: isinstance(driver.app.screen, Palette), "the palette")
        driver.resize(Size(80, 3))
        await driver.until(lambda: driver.app.screen.size.height == 3, "a small terminal")
        click = events.Click(driver.app.screen, 40, 17, 0, 0, 1, False, False, False, screen_x=40, screen_y=17)
        driver.app.screen.post_message(click)
        await driver.pilot.pause()
        await driver.pilot.press("escape", "escape")
        await driver.until(lambda: driver.app.screen is driver.chat, "the chat")
        await driver.ask("still here")

    play(scenario)


def test_undo_of_lines_that_the_cursor_stood_in(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        driver.resize(Size(20, 8))
        driver.prompt.insert("one ")
        driver.send(events.Paste("two\n" * 30))
        await driver.until(lambda: driver.prompt.cursor_location == (30, 0), "the paste")
        await driver.pilot.press("ctrl+z")
        assert driver.prompt.text == "one "
        assert driver.prompt.cursor_location == (0, 4)
        await driver.pilot.press("ctrl+z", "ctrl+z")
        assert driver.prompt.text == ""

    play(scenario)


def test_a_megabyte_that_is_pasted_into_a_line_is_cut(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        await driver.pilot.press("ctrl+f")
        await driver.until(lambda: isinstance(driver.app.screen, SearchScreen), "the search")
        driver.send(events.Paste("\x1b[31mhel\x1b[0m"))
        driver.send(events.Paste("lo" + " megabyte" * 116_509 + "\nanother line"))
        line = driver.app.screen.query_one(Line)
        await driver.until(lambda: line.value.startswith("hello megabyte"), "the paste")
        assert len(line.value) == LONGEST

    play(scenario)
