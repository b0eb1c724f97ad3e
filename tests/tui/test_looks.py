"""Themes and keys from the settings: what they change, and how a mistake in them is answered."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from assistant.errors import UsageError
from assistant.settings import load_settings
from tests.conftest import RunningDaemon
from tests.tui.driver import chatting
from tui import themes
from tui.app import main
from tui.keys import check_keys, sections, shown, spelled
from tui.options import Options
from tui.preferences import Preferences, load_preferences
from tui.screens.help import HelpScreen
from tui.widgets.prompt import Prompt

FRAME = {"c5c8c6", "292929"}
"""Textual's picture of a terminal around what we draw."""


def write(home: Path, text: str) -> Path:
    path = home / "config" / "config.toml"
    path.write_text(text)
    return path


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, in a home of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_settings_name_a_theme_and_keys(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, 'theme = "light"\n[keys]\nnew = "ctrl+e"\n')
    assert load_preferences().theme == "light"
    assert load_preferences().keys == {"new": "ctrl+e"}
    (folder / "assistant.toml").write_text('theme = "ansi"\n')
    assert load_preferences().theme == "ansi"
    monkeypatch.setenv("ASSISTANT_THEME", "contrast")
    monkeypatch.setenv("ASSISTANT_KEYS", json.dumps({"new": "f10"}))
    found, settings = load_preferences(), load_settings()
    assert (found.theme, found.keys) == ("contrast", {"new": "f10"}) == (settings.theme, settings.keys)
    assert settings.origin("keys") == "environment ASSISTANT_KEYS"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('theme = "lihgt"', "'lihgt'; the nearest is 'light'"),
        ("theme = 7", "theme = 7 is not valid"),
        ("theme = ", "is not valid TOML"),
        ('keys = "ctrl+n"', "keys is not a table"),
        ("[keys]\nnew = 3", "keys.new = 3 is not valid"),
        ('[keys]\nnwe = "ctrl+e"', "unknown id 'nwe'; the nearest is 'new'"),
        ('[keys]\nnew = "ctlr+e"', "keys.new = 'ctlr+e' is no key; the nearest is 'ctrl+e'"),
        ('[keys]\nnew = "f10"\nsend = "enter,f10"', "gives 'f10' to both 'new' and 'send'"),
    ],
)
def test_a_mistake_is_a_sentence_before_anything_is_drawn(home: Path, folder: Path, text: str, sentence: str) -> None:
    write(home, text)
    with pytest.raises(UsageError) as raised:
        main([])
    assert sentence in str(raised.value)


def test_the_default_theme_is_the_one_of_the_settings(home: Path, folder: Path) -> None:
    assert load_settings().theme == themes.DEFAULT
    assert set(themes.OWN) <= set(themes.names())


@pytest.mark.parametrize("name", themes.names())
def test_every_theme_draws_the_chat(shared_daemon: RunningDaemon, name: str) -> None:
    async def run() -> None:
        async with chatting(Options(conversation="looks"), preferences=Preferences(theme=name)) as driver:
            theme = driver.app.current_theme
            assert theme.name == name
            assert (
                name not in themes.OWN
                or theme.ansi
                or driver.chat.styles.background.hex == str(theme.background).upper()
            )
            await driver.sees("ready")

    asyncio.run(run())


def test_no_color_takes_the_colours_and_leaves_the_words(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def run() -> None:
        async with chatting(Options(conversation="grey")) as driver:
            await driver.ask("hello")
            drawn = driver.app.export_screenshot()
            assert driver.app.no_color
            assert "hello" in drawn
            colours = set(re.findall(r"-r\d+ { fill: #(\w{6})", drawn)) | set(re.findall(r'rect fill="#(\w{6})', drawn))
            assert len(colours) > 3
            assert all(one[:2] == one[2:4] == one[4:] for one in colours - FRAME)

    asyncio.run(run())


def test_a_changed_key_does_the_same_and_the_help_shows_it(daemon: RunningDaemon) -> None:
    keys = {"new": "f10", "send": "ctrl+e", "help": "f12"}

    async def run() -> None:
        async with chatting(Options(conversation="one"), (80, 100), Preferences(keys=keys)) as driver:
            await driver.sees("^e sends · ^j new line · f12 keys")
            await driver.pilot.press("a", "enter", "b", "ctrl+e")
            await driver.until(lambda: bool(driver.replies) and driver.chat.desk.idle, "the reply")
            assert driver.said == ["a\nb"]
            await driver.pilot.press("ctrl+n")
            assert driver.chat.desk.name == "one"
            await driver.pilot.press("f10")
            await driver.until(lambda: driver.chat.desk.name == "chat", "a new conversation")
            await driver.pilot.resize_terminal(80, 60)
            await driver.pilot.press("f12")
            await driver.until(lambda: isinstance(driver.app.screen, HelpScreen), "the help")
            await driver.sees("f10            New conversation  new")
            await driver.sees("^e             Send  send")

    asyncio.run(run())


def test_every_key_has_an_id_of_its_own() -> None:
    ids = [one.id for _, owner in sections() for one in owner.__dict__["BINDINGS"] if one.description]
    assert None not in ids
    assert len(set(ids)) == len(ids)
    check_keys({name: f"ctrl+f{number}" for number, name in enumerate(ids, 1) if name and number < 20})


def test_how_keys_are_written() -> None:
    assert [spelled(key) for key in ("ctrl+n", "escape", "alt+up", "f1", "+")] == ["^n", "esc", "alt+↑", "f1", "+"]
    send = next(one for one in Prompt.BINDINGS if getattr(one, "id", "") == "newline")
    assert not isinstance(send, tuple)
    assert shown(send, {}) == "^j"
    assert shown(send, {"newline": "f7,ctrl+k"}) == "f7 or ^k"
