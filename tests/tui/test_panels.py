"""The memory panels over the chat, by their keys, against a real daemon with a scripted worker."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any, TypeVar

from textual.screen import Screen
from textual.widgets import Input

from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import TRIP, play, seed
from tui.options import Options
from tui.screens.budget import BudgetScreen
from tui.screens.episodes import EpisodesScreen
from tui.screens.memory import MemoryScreen
from tui.screens.why import WhyScreen
from tui.widgets.chart import EpisodeChart

S = TypeVar("S", bound=Screen[Any])
HOSTILE = "[b]dogs[/b] \x1b[31mred\x1b[0m are what we talk about"
SIZES = [(80, 24), (120, 40), (300, 100), (10, 3)]


async def open_panel(driver: Driver, key: str, kind: type[S]) -> S:
    await driver.pilot.press(key)
    await driver.until(lambda: isinstance(driver.app.screen, kind), f"the panel of {key}")
    screen = driver.app.screen
    assert isinstance(screen, kind)
    return screen


async def shown(driver: Driver, words: str) -> None:
    await driver.until(lambda: words in driver.screen_text, repr(words))


async def back(driver: Driver, key: str = "escape") -> None:
    await driver.pilot.press(key)
    await driver.until(lambda: driver.app.screen is driver.chat, "back in the chat")


async def talk(turns: int = 16) -> None:
    """An imported conversation about dogs and money, in turn every four turns."""
    topics = [("[b]dogs[/b]" if at // 4 % 2 == 0 else "money") for at in range(turns)]
    await seed("trip", [f"{topic} are what we talk about {at}" for at, topic in enumerate(topics)])


def test_memory_adds_up_and_says_what_happened(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("x" * 5000)
        await open_panel(driver, "f2", MemoryScreen)
        await shown(driver, "110 MiB in use of a budget of 900 MiB")
        text = driver.screen_text
        for words in (
            "Memory · fake · cpu, weights none",
            "? unaccounted 9.0 MiB",
            "· free 790 MiB",
            "The system sees 160 MiB: in use 110 MiB + Python and libraries 50 MiB",
            "Older turns have left the working set: 4,096 of ",
            "disk      chunks",
            "rows sealed  7",
            "tokens left the working set (4,096 of ",
        ):
            assert words in text, words
        bar = next(line.strip() for line in text.splitlines() if line.strip().startswith("["))
        assert len(bar) == 120 - 4 - 1, "the bar is as wide as there is room for beside the scroll bar"
        await back(driver, "f2")

    play(scenario, TRIP, (120, 50))


def test_memory_while_the_daemon_is_gone_is_a_sentence(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        daemon.signal(signal.SIGKILL)
        await open_panel(driver, "f2", MemoryScreen)
        await shown(driver, "The daemon does not answer")
        await back(driver)

    play(scenario)


def test_the_map_goes_to_the_turn_that_is_chosen(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await open_panel(driver, "f3", EpisodesScreen)
        await shown(driver, "trip · 1 sitting, 60 turns")
        chart = driver.app.screen.query_one(EpisodeChart)
        last = chart.cell
        assert last is not None
        await driver.sees(f"turns {last.turns[0]}-{last.turns[1]}")
        for shape, state in (("█", "verbatim"), ("▒", "compressed"), ("░", "on disk"), ("·", "text only")):
            await driver.sees(f"{shape} {state}")
        await driver.pilot.press("home", "right", "right")
        third = chart.cell
        assert third is not None
        assert third.turns[0] == last.turns[0] - 2 * 27
        await driver.sees(f"turns {third.turns[0]}-{third.turns[1]}")
        assert "[b]dogs[/b] are what we talk about 4" not in driver.screen_text
        await driver.sees("money are what we talk about 4")
        await back(driver, "enter")
        await shown(driver, "money are what we talk about 4")
        assert driver.transcript.newer > 0, "newer turns can be gone to"

    run_with(60, scenario)


def test_the_map_filters_by_words(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await open_panel(driver, "f3", EpisodesScreen)
        await shown(driver, "1 sitting, 16 turns")
        await driver.pilot.press("slash", *"[b]dogs")
        await shown(driver, "8 match “[b]dogs”")
        await driver.pilot.press(*" 9")
        await shown(driver, "2 match “[b]dogs 9”")
        await driver.pilot.press("x")
        await shown(driver, "Nothing matches.")
        await driver.pilot.press("enter", "enter")
        assert isinstance(driver.app.screen, EpisodesScreen), "there is nothing to go to"
        await driver.pilot.press("escape")
        await shown(driver, "1 sitting, 16 turns")
        assert "match" not in driver.screen_text
        await driver.pilot.press("e")
        await shown(driver, "11221122")
        await shown(driver, "2 money")
        await back(driver)

    run_with(16, scenario)


def test_why_quotes_its_sources_and_goes_to_them(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("tell me about [b]dogs[/b]")
        await driver.ask("and what of money")
        screen = await open_panel(driver, "f4", WhyScreen)
        await shown(driver, "question 10 of 10 in trip")
        text = " ".join(driver.screen_text.split())
        for words in (
            "and what of money",
            "Episode 2 (money), similarity 0.50; next is 1 ([b]dogs[/b]) with 0.25.",
            "below 0.25 no episode counts as near",
            "an estimated 1.0% (at most 2.0%) was on stored tokens that stayed away",
            "Attention says what the reply used, not what caused it.",
            "Recalled: 5 entries of tokens 0-63, 12.5% of attention",
        ):
            assert words in text, words
        await driver.pilot.press("left")
        await shown(driver, "question 9 of 10 in trip")
        await shown(driver, "Episode 1 ([b]dogs[/b])")
        await driver.pilot.press("left")
        await shown(driver, "Nothing was noted of it")
        await driver.pilot.press("right", "right", "right")
        await shown(driver, "question 10 of 10")
        assert screen.is_current
        await driver.pilot.press("down")
        await back(driver, "enter")
        await shown(driver, "[b]dogs[/b] are what we talk about 1")

        await driver.pilot.press("w")
        await shown(driver, "Why · question 1 of 10 in trip")
        await back(driver, "f4")

    run_with(16, scenario, size=(120, 50))


def test_a_budget_is_looked_at_used_and_taken_back(daemon: RunningDaemon) -> None:
    async def budget_of_next(driver: Driver) -> str:
        await driver.ask("spec")
        return str(json.loads(driver.replies[-1])["budget"])

    async def scenario(driver: Driver) -> None:
        await driver.ask("x" * 5000)
        await open_panel(driver, "ctrl+b", BudgetScreen)
        await shown(driver, "This is the budget in force.")
        line = driver.app.screen.query_one(Input)
        assert line.value == "900MiB"
        await driver.pilot.press("down", "down")
        assert line.value == "832MiB"
        line.value = "100MiB"
        await shown(driver, "The budget of 100 MiB is too small.")
        await driver.pilot.press("enter")
        assert isinstance(driver.app.screen, BudgetScreen), "what does not fit is not applied"
        line.value = "450 MiB"
        await shown(driver, "The next message loads the model again")
        rows = [" ".join(line.split()) for line in driver.screen_text.splitlines()]
        assert any("entries at most 4,096 2,048" in row for row in rows)
        await back(driver, "enter")
        await shown(driver, "The budget is 450 MiB from the next message on")
        assert await budget_of_next(driver) == "450 MiB"
        await open_panel(driver, "ctrl+b", BudgetScreen)
        await shown(driver, "^z back to 900MiB")
        await back(driver, "ctrl+z")
        assert await budget_of_next(driver) == "900MiB"
        await open_panel(driver, "ctrl+b", BudgetScreen)
        await shown(driver, "900 MiB now")
        assert "^z" not in driver.screen_text
        await back(driver)
        assert await budget_of_next(driver) == "900MiB"

    play(scenario)


def test_every_panel_at_every_size_and_with_nothing_said(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        for key, kind in (("f2", MemoryScreen), ("f3", EpisodesScreen), ("f4", WhyScreen), ("ctrl+b", BudgetScreen)):
            await open_panel(driver, key, kind)
            await driver.until(lambda: not loading(driver), "everything has been asked")
            for size in SIZES:
                await driver.pilot.resize_terminal(*size)
                await driver.pilot.press("down", "left")
            await back(driver)

    play(scenario, Options(conversation="nothing"))


def test_control_characters_are_drawn_as_nothing(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("tell me about [b]dogs[/b]")
        for key, kind in (("f3", EpisodesScreen), ("f4", WhyScreen)):
            await open_panel(driver, key, kind)
            await shown(driver, "[b]dogs[/b]")
            assert "\x1b" not in driver.screen_text
            assert "[31m" not in driver.screen_text
            await back(driver)

    asyncio.run(seed("trip", [HOSTILE] * 8))
    play(scenario, TRIP)


def loading(driver: Driver) -> bool:
    return any(worker.group in ("load", "plan") and not worker.is_finished for worker in driver.app.workers)


def run_with(turns: int, scenario: Any, size: tuple[int, int] = (80, 24)) -> None:
    """The scenario in a conversation with so many imported turns."""
    asyncio.run(talk(turns))
    play(scenario, TRIP, size)
