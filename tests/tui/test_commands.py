"""Commands: typed after a slash, completed, picked from the palette; files after an @; copying."""

from __future__ import annotations

import asyncio
import base64
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from textual.command import CommandPalette
from textual.widgets import Input, OptionList

from assistant.errors import UsageError
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import history, play, seed
from tests.tui.test_screens import names
from tui.clipboard import code_blocks, sequences
from tui.commands import COMMANDS, find, parse, unknown
from tui.completion import argument_offer, argument_typed, command_typed, commands_offer, file_typed, files_offer
from tui.files import attach, fold, matching
from tui.keys import bindings_of
from tui.options import Options
from tui.screens.chat import ChatScreen
from tui.screens.help import HelpScreen
from tui.screens.pick import Pick

CODE = "Two blocks:\n\n```python\nprint(1)\n```\n\nand\n\n```\nls -l\n```\n"


def taken(screen: ChatScreen) -> str:
    """What is on the clipboard."""
    return screen.app.clipboard


def test_the_shape_of_a_command() -> None:
    assert parse("/new") == ("new", "")
    assert parse("/rename a name ") == ("rename", "a name")
    assert parse("/system one\ntwo") == ("system", "one\ntwo")
    assert [parse(text) for text in ("/usr/bin", " /new", "/", "/New", "new", "a /new")] == [None] * 6
    assert "the nearest is /rename" in unknown("renme")


def test_every_command_has_a_name_of_its_own_and_the_key_it_names() -> None:
    assert len({one.name for one in COMMANDS}) == len(COMMANDS)
    ids = {one.id for one in bindings_of(ChatScreen)}
    assert {one.key for one in COMMANDS if one.key} <= ids
    assert find("new") is not None
    assert find("nothing") is None


def test_what_is_offered_while_typing() -> None:
    assert command_typed("/re") == "re"
    assert command_typed("/re x") is None
    assert argument_typed("/theme li") == ("theme", "li")
    offer = commands_offer("e", [("new", "n"), ("end", "e"), ("theme", "t")])
    assert [one.text for one in offer.choices] == ["/end", "/new", "/theme"]
    assert [one.text for one in argument_offer("theme", "LI", [("dark", ""), ("light", "")]).choices] == [
        "/theme light"
    ]
    assert [file_typed(line) for line in ("see @no", "@", 'a @"my fi', "mail@host", "@a b")] == [
        "no",
        "",
        "my fi",
        None,
        None,
    ]
    found = files_offer("see @no", ["notes.md", "no w.md", "nodes/", "no s/"])
    assert found.start == 4
    assert [(one.text, one.more) for one in found.choices] == [
        ("@notes.md", False),
        ('@"no w.md"', False),
        ("@nodes/", True),
        ('@"no s/', True),
    ]


def test_files_are_matched_and_attached(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("print('hi')\n")
    (tmp_path / "Notes.md").write_text("# Notes\n")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "raw").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "big").write_bytes(b"a" * (1024 * 1024 + 1))
    assert matching("", tmp_path) == ["src/", "big", "Notes.md", "raw"]
    assert matching("no", tmp_path) == ["Notes.md"]
    assert matching(".", tmp_path) == [".hidden"]
    assert matching("src/m", tmp_path) == ["src/main.py"]
    assert matching("nowhere/", tmp_path) == []
    text = attach("read @Notes.md and @src/main.py, ask @home", tmp_path)
    assert text.startswith("read @Notes.md and @src/main.py, ask @home")
    assert text.count("<file name=") == 1  # "src/main.py," is no file
    text = attach('see @src/main.py and @"Notes.md" and @Notes.md', tmp_path)
    assert fold(text) == (
        'see @src/main.py and @"Notes.md" and @Notes.md',
        ["src/main.py, 11 characters", "Notes.md, 7 characters"],
    )
    assert fold(attach("all of @src/", tmp_path)) == ("all of @src/", ["src/main.py, 11 characters"])
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "raw").write_bytes(b"\xff\xfe\x00")
    for name, why in (("none", "no text file in none"), ("raw", "not a text file"), ("big", "up to 1.0 MiB")):
        with pytest.raises(UsageError, match=why):
            attach(f"@{name}", tmp_path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_address_is_attached(tmp_path: Path) -> None:
    page = "<head><title>x</title></head><h1>Ferries</h1><script>1<2</script><p>At <b>nine</b> &amp; ten"
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.txt").write_text("plain <b>")
    (tmp_path / "c.png").write_bytes(b"1")
    (tmp_path / "d.txt").write_bytes(b"a" * 2**21)
    with serving(tmp_path) as base:
        assert f'<file name="{base}/a.html">\nFerries\nAt nine & ten\n</file>' in attach(f"@{base}/a.html", tmp_path)
        assert "\nplain <b>\n" in attach(f"see @{base}/b.txt", tmp_path)
        for name, why in (("c.png", "is image/png"), ("d.txt", "more than the 1.0 MiB"), ("e", "answers 404")):
            with pytest.raises(UsageError, match=why):
                attach(f"@{base}/{name}", tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        attach("@http://127.0.0.1:1/x", tmp_path)


def test_clipboard_sequences() -> None:
    plain = "\x1b]52;c;" + base64.b64encode("grüße".encode()).decode() + "\x07"
    assert sequences("grüße", {}) == plain
    wrapped = sequences("grüße", {"TMUX": "/tmp/tmux-0/default,1,0"})
    assert wrapped == plain + "\x1bPtmux;\x1b" + plain + "\x1b\\"
    long = sequences("x" * 5000, {"STY": "1.pts"})
    chunks = re.findall("\x1bP(.*?)\x1b\\\\", long, re.DOTALL)
    assert max(map(len, chunks)) <= 700
    assert base64.b64decode("".join(chunks).removeprefix("\x1b]52;c;").removesuffix("\x07")) == b"x" * 5000


def test_blocks_of_code() -> None:
    assert code_blocks(CODE) == ["print(1)", "ls -l"]
    assert code_blocks("no code, `only` words") == []


def test_a_command_is_completed_and_run(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("hello")
        await driver.pilot.press("/", "r", "e", "n")
        await driver.until(lambda: "Rename this conversation" in driver.screen_text, "the offer")
        await driver.pilot.press("tab")
        assert driver.prompt.text == "/rename"
        await driver.pilot.press("space", *"Lisbon", "enter")
        await driver.until(lambda: driver.chat.desk.name == "Lisbon", "renamed")
        assert await names() == ["Lisbon"]
        assert driver.prompt.text == ""
        assert len(driver.said) == 1

    play(scenario)


def test_enter_takes_what_is_highlighted_and_sends_it(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press(*"/theme li")
        await driver.until(lambda: "/theme light" in driver.screen_text, "the offer")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.app.theme == "light", "the theme")
        await driver.sees('theme = "light"')
        assert driver.prompt.text == ""

    play(scenario)


def test_the_arrows_move_in_the_offer_and_escape_closes_it(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("/")
        await driver.until(lambda: driver.prompt.choices is not None and driver.prompt.choices.display, "the offer")
        assert driver.prompt.choices is not None
        await driver.pilot.press("down", "down", "up")
        assert driver.prompt.choices.highlighted == 1
        await driver.pilot.press("escape")
        assert not driver.prompt.choices.display
        assert driver.prompt.text == "/"
        await driver.pilot.press("n")
        await driver.until(lambda: driver.prompt.choices is not None and bool(driver.prompt.choices.display), "again")
        await driver.pilot.press("backspace", "backspace")
        await driver.until(lambda: driver.prompt.choices is not None and not driver.prompt.choices.display, "nothing")

    play(scenario)


def test_an_unknown_command_stays_in_the_prompt(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        driver.prompt.insert("/thme")
        await driver.pilot.press("escape", "enter")
        assert driver.prompt.text == "/thme"
        await driver.sees("the nearest is /theme")
        await driver.pilot.press("home", "space")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.said == [" /thme"], "with a space it is text")

    play(scenario)


def test_a_path_is_no_command(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ask("/usr/bin/python is missing")
        assert driver.said == ["/usr/bin/python is missing"]

    play(scenario)


def test_the_palette_has_the_commands(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("ctrl+p")
        await driver.until(lambda: isinstance(driver.app.screen, CommandPalette), "the palette")
        driver.app.screen.query_one(Input).value = "Colours"
        options = driver.app.screen.query_one(OptionList)
        await driver.until(lambda: options.option_count == 1 and "/theme" in driver.screen_text, "the command")
        await driver.pilot.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, Pick), "the themes")
        await driver.pilot.press(*"contr")
        await driver.until(lambda: "1 of " in driver.screen_text, "filtered")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.app.theme == "contrast", "the theme")

    play(scenario)


def test_the_palette_finds_a_command_by_its_name(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("ctrl+p")
        await driver.until(lambda: isinstance(driver.app.screen, CommandPalette), "the palette")
        driver.app.screen.query_one(Input).value = "help"
        options = driver.app.screen.query_one(OptionList)
        await driver.until(lambda: options.option_count > 0 and "/help · f1" in driver.screen_text, "the command")
        await driver.pilot.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, HelpScreen), "the help")

    play(scenario)


def test_copying(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f6")
        await driver.until(lambda: taken(driver.chat) == CODE.strip(), "the reply")
        await driver.sees(f"Copied the last reply: {len(CODE.strip())} characters.")
        for typed, code in (("/copy code", "ls -l"), ("/copy code 1", "print(1)")):
            await driver.type(typed)
            await driver.until(lambda code=code: taken(driver.chat) == code, typed)  # type: ignore[misc]
        await driver.type("/copy code 3")
        await driver.until(lambda: "there is no block 3" in driver.screen_text, "the sentence")
        assert taken(driver.chat) == "print(1)"
        driver.prompt.insert("some words")
        driver.prompt.select_all()
        await driver.pilot.press("ctrl+c")
        assert taken(driver.chat) == "some words"
        await driver.sees("Copied the selection: 10 characters.")

    asyncio.run(seed("trip", ["code", CODE.strip()]))
    play(scenario)


def test_nothing_to_copy_is_a_sentence(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f6")
        await driver.until(lambda: "no reply to copy yet" in driver.screen_text, "the sentence")

    play(scenario)


def test_a_file_goes_with_a_message(daemon: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press(*"see @no")
        await driver.until(lambda: "@notes.md" in driver.screen_text, "the offer")
        await driver.pilot.press("enter")
        assert driver.prompt.text == "see @notes.md"
        await driver.pilot.press("enter")
        await driver.until(lambda: bool(driver.replies) and driver.chat.desk.idle, "the reply")
        assert (await history("trip"))[0][1] == 'see @notes.md\n\n<file name="notes.md">\nThe [b]secret[/b].\n</file>'
        await driver.sees("+ notes.md, 18 characters")
        driver.prompt.insert("and @raw")
        await driver.pilot.press("escape", "enter")
        await driver.until(lambda: "raw is not a text file" in driver.screen_text, "the sentence")
        assert driver.prompt.text == "and @raw"

    (tmp_path / "notes.md").write_text("The [b]secret[/b].\n")
    (tmp_path / "raw").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    play(scenario)


def test_an_address_goes_with_a_message(daemon: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nine o'clock")
    with serving(tmp_path) as base:

        async def scenario(driver: Driver) -> None:
            await driver.ask(f"when @{base}/a.txt")
            assert (await history("trip"))[0][1].endswith("\nnine o'clock\n</file>")
            driver.prompt.insert(f"and @{base}/b.txt")
            await driver.pilot.press("enter")
            await driver.until(lambda: "answers 404" in driver.screen_text, "the sentence")
            assert driver.prompt.text == f"and @{base}/b.txt"

        play(scenario)


def test_new_and_open_take_a_name(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("/new trip")
        await driver.until(lambda: "already a conversation 'trip'" in driver.screen_text, "the sentence")
        await driver.type("/new work")
        await driver.until(lambda: driver.chat.desk.name == "work", "the new one")
        await driver.type("/rename desk")
        await driver.until(lambda: "stored with its first message" in driver.screen_text, "the sentence")
        await driver.type("/open tirp")
        await driver.until(lambda: "the nearest is 'trip'" in driver.screen_text, "the sentence")
        await driver.type("/open trip")
        await driver.until(lambda: driver.chat.desk.name == "trip" and driver.said == ["hello"], "the old one")

    asyncio.run(seed("trip", ["hello", "welcome"]))
    play(scenario, Options(conversation="trip"))
