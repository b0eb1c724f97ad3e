"""What the screens look like: stored pictures at two sizes, dark, light and without colours."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from assistant.places import Places
from tests.conftest import RunningDaemon
from tests.tui.driver import DEADLINE_S, Driver, chatting
from tests.tui.pictures import ACCEPT, as_stored, compare, picture
from tests.tui.test_chat import seed
from tui.options import Options
from tui.preferences import Preferences

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
LOOKS = ("dark", "light", "no-colour")
STAMP = "2020-06-15T12:00:00+00:00"
"""When every turn was said, in the pictures."""
ASKED = "Which ferry do we take? 渡し船 ⛴ [b]not bold[/b]"
ANSWER = """\
## The morning one

It leaves at **nine** from *pier 2*, and `biscuit` comes along:

- tickets for two 🐕
- a blanket

> Bring cash.

```python
def fare(people: int) -> float:
    return 4.5 * people
```

| leaves | arrives |
|--------|---------|
| 09:00  | 09:40   |
"""

Scene = Callable[[Driver], Awaitable[None]]


async def welcome(driver: Driver) -> None:
    """Nothing has been said yet."""


async def talk(driver: Driver) -> None:
    """A reply with everything Markdown has, one that is new, and what it cost."""
    await driver.ask("notice The disk is nearly full.")
    driver.prompt.insert("and then")


async def listed(driver: Driver) -> None:
    """The list of conversations."""
    await driver.sees("09:40")  # what is seen through the list does not change any more
    await driver.pilot.press("ctrl+s")
    await driver.until(lambda: "ferry" in driver.screen_text and "2020" in driver.screen_text, "the list")


async def helped(driver: Driver) -> None:
    """The keys."""
    await driver.sees("09:40")
    await driver.pilot.press("f1")
    await driver.until(lambda: "Keys" in driver.screen_text, "the keys")


SCENES: dict[str, Scene] = {"welcome": welcome, "talk": talk, "conversations": listed, "keys": helped}


SHOWS = {"welcome": "machine", "talk": "then", "conversations": "Conversations", "keys": "commands"}
"""A word of each scene."""


async def settled(driver: Driver, word: str, name: str) -> str:
    """The picture that shows the word and no longer changes. On a busy machine a screen can stand still between two
    steps: one that is not as stored gets the time in which a driver gives up for the next step to come."""
    end = time.monotonic() + DEADLINE_S
    seen, now, right = "", picture(driver.app), False
    while not (right and now == seen and word in now and driver.chat.told) and time.monotonic() < end:
        await driver.pilot.pause()
        seen, now = now, picture(driver.app)
        right = as_stored(name, now) or bool(os.environ.get(ACCEPT))
    return now


def long_ago(places: Places) -> None:
    """Everything in the history was said at one moment."""
    history = sqlite3.connect(places.history)
    with history:
        history.execute("update turns set created = ?", [STAMP])
        history.execute("update conversations set created = ?, updated = ?", [STAMP, STAMP])
    history.close()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", SCENES)
def test_looks_as_stored(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scene: str, size: str, look: str
) -> None:
    name = f"{scene}-{size}-{look}"

    async def run() -> None:
        await seed("ferry", [ASKED, ANSWER])
        long_ago(daemon.places)
        options = Options(conversation="trip" if scene == "welcome" else "ferry")
        async with chatting(options, SIZES[size], preferences) as driver:
            driver.prompt.cursor_blink = False
            await SCENES[scene](driver)
            compare(name, await settled(driver, SHOWS[scene], name), tmp_path)

    preferences = Preferences(theme="light" if look == "light" else None)
    if look == "no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    asyncio.run(run())


def test_another_picture_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ACCEPT, raising=False)
    with pytest.raises(AssertionError, match="make pictures"):
        compare("welcome-80x24-dark", "<svg/>", tmp_path)
    assert (tmp_path / "welcome-80x24-dark.svg").read_text() == "<svg/>"
