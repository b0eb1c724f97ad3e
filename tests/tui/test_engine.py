"""What writes the replies: model, parameters, system prompt; and what helps in writing to it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from assistant.client import Client
from assistant.errors import UsageError
from assistant.protocol import ConversationChange
from tests.conftest import RunningDaemon
from tests.tui.driver import Driver
from tests.tui.test_chat import history, play, seed
from tests.tui.test_process import Terminal, terminal
from tui.app import main
from tui.editor import command
from tui.flags import parse, without_web
from tui.options import Options
from tui.preferences import Preferences
from tui.screens.log import LogScreen
from tui.screens.parameters import Parameters
from tui.screens.pick import Pick
from tui.screens.text import AskText
from tui.session import Session

__all__ = ["terminal"]


async def shows(driver: Driver, kind: type[object]) -> None:
    await driver.until(lambda: isinstance(driver.app.screen, kind), kind.__name__)


def test_the_model_picker_says_what_fits(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f8")
        await shows(driver, Pick)
        await driver.pilot.press(*"smollm2-135m")
        await driver.until(
            lambda: "smollm2-135m" in driver.screen_text and "download 89 MiB" in driver.screen_text, "size"
        )
        await driver.sees("fits: fp")  # fp16, or fp32 where torch does not multiply that
        for _ in range(12):
            await driver.pilot.press("backspace")
        await driver.pilot.press(*"fake")
        await driver.until(lambda: "in use" in driver.screen_text and "1 of" in driver.screen_text, "ours")
        await driver.pilot.press("enter")
        await driver.until(lambda: "The next replies come from fake" in driver.screen_text, "chosen")
        assert driver.app.session.options.model == "fake"
        await driver.ready()
        await driver.ask("hello")

    play(scenario, size=(100, 40))


def test_the_model_picker_goes_by_the_budget_of_the_next_turn(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.ready()
        driver.app.session.options = replace(driver.app.session.options, budget="700MiB")
        await driver.pilot.press("f8")
        await shows(driver, Pick)
        await driver.pilot.press(*"smollm2-135m")
        await driver.sees("700 MiB")

    play(scenario, size=(100, 40))


def test_parameters_are_asked_checked_and_sent(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f7")
        await shows(driver, Parameters)
        driver.app.screen.query_one("#temperature", Input).value = "7"
        await driver.pilot.press("enter")
        await driver.until(lambda: "temperature: Input should be less than or equal to 2" in driver.screen_text, "why")
        driver.app.screen.query_one("#temperature", Input).value = "0.5"
        await driver.pilot.press("down", "down", *"40", "enter")
        await driver.until(lambda: "temperature 0.5, top_k 40" in driver.screen_text, "set")
        await driver.ask("sampling")
        said = json.loads(driver.replies[-1])
        assert (said["temperature"], said["top_k"], said["top_p"]) == (0.5, 40, 0.9)
        await driver.type("/set temperature")
        await driver.type("/set top_k 3")
        await driver.until(lambda: "Until you leave: top_k 3." in driver.screen_text, "one only")
        await driver.type("/set temprature 1")
        await driver.until(lambda: "no parameter 'temprature'" in driver.screen_text, "a wrong name")
        await driver.type("/set top_k")
        await driver.until(lambda: "as the settings say" in driver.screen_text, "none")

    play(scenario, size=(100, 40))


def test_a_system_prompt_for_a_new_conversation(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("/system")
        await shows(driver, AskText)
        driver.app.screen.query_one(TextArea).insert("Answer\nin verse.")
        await driver.pilot.press("ctrl+s")
        await driver.until(lambda: "stands before your first message" in driver.screen_text, "taken")
        await driver.ask("hello")
        assert (await history("trip"))[0][:2] == ("system", "Answer\nin verse.")
        await driver.type("/system something else")
        await driver.until(lambda: "stands before the first message and stays" in driver.screen_text, "too late")

    play(scenario)


def test_a_system_prompt_that_stands_already_is_changed(daemon: RunningDaemon) -> None:
    async def before() -> None:
        await seed("trip", ["x"])
        async with await Client.connect(start=False) as client:
            await client.remove("trip")

    async def scenario(driver: Driver) -> None:
        await driver.type("/system Be brief.")
        await driver.until(lambda: "stands before your first message" in driver.screen_text, "taken")
        await driver.type("/system Be very brief.")
        await driver.until(lambda: driver.app.session.systems == {"trip": "Be very brief."}, "changed")
        await driver.ask("hello")
        assert (await history("trip"))[0][1] == "Be very brief."
        assert ConversationChange(system="x").system == "x"

    asyncio.run(before())
    play(scenario)


def test_earlier_messages_of_all_conversations(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("up")
        assert driver.prompt.text == "here"
        await driver.pilot.press("up")
        assert driver.prompt.text == "newer elsewhere"
        driver.prompt.clear_all()
        await driver.pilot.press("ctrl+r")
        await shows(driver, Pick)
        await driver.pilot.press(*"old")
        await driver.until(lambda: "1 of 3" in driver.screen_text, "filtered")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.prompt.text == "older elsewhere", "it is in the prompt")

    async def before() -> None:
        await seed("work", ["older elsewhere", "x", "newer elsewhere", "y"])
        await seed("trip", ["here", "z"])
        await seed("gone", ["a secret", "z"])
        async with await Client.connect(start=False) as client:
            await client.remove("gone")

    asyncio.run(before())
    play(scenario)


def test_the_log_is_shown_and_followed(daemon: RunningDaemon) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.pilot.press("f9")
        await shows(driver, LogScreen)
        with log.open("a") as file:
            file.write("a line with [b]brackets[/b] and \x1b[31mred\n")
            file.write('{"pid": 7, "event": "worker died", "level": "warning", "timestamp": "2026-11-21T21:02:03Z"}\n')
        await driver.until(lambda: "a line with [b]brackets[/b] and red" in driver.screen_text, "the new line")
        await driver.sees("21:02:03 warning worker died  pid=7")
        log.write_text("begun anew\n")
        await driver.until(lambda: "begun anew" in driver.screen_text and "brackets" not in driver.screen_text, "anew")
        await driver.pilot.press("escape")
        assert driver.app.screen is driver.chat

    log = daemon.places.log
    log.parent.mkdir(parents=True, exist_ok=True)
    play(scenario)


def test_export(daemon: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(driver: Driver) -> None:
        await driver.type("/export md")
        await driver.until(lambda: any("trip" in str(one) for one in tmp_path.iterdir()), "written")
        assert (tmp_path / "trip.md").read_text().startswith("# trip\n")
        assert "My [b]dog[/b]" in (tmp_path / "trip.md").read_text()
        await driver.type("/export md")
        await driver.until(lambda: "is there already" in driver.screen_text, "not over another file")
        for form in ("json", "jsonl"):
            await driver.type(f"/export {form} out.{form}")
            await driver.until((tmp_path / f"out.{form}").exists, form)
        assert json.loads((tmp_path / "out.json").read_text())["name"] == "trip"
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
        await driver.type("/export svg")
        await driver.until((tmp_path / "trip.svg").exists, "a picture")
        assert "<svg" in (tmp_path / "trip.svg").read_text()
        await driver.type("/export pdf")
        await driver.until(lambda: "not 'pdf'" in driver.screen_text, "no such form")

    monkeypatch.chdir(tmp_path)
    asyncio.run(seed("trip", ["My [b]dog[/b]", "Yes."]))
    play(scenario)


def test_which_editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert command({"EDITOR": f"{sys.executable} -c pass"}) == [sys.executable, "-c", "pass"]
    assert command({"VISUAL": sys.executable, "EDITOR": "nothing"}) == [sys.executable]
    with pytest.raises(UsageError, match="'nothing' is not installed"):
        command({"EDITOR": "nothing"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="No editor is installed"):
        command({})


def test_without_a_terminal_the_editor_is_a_sentence(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(driver: Driver) -> None:
        driver.prompt.insert("keep me")
        await driver.pilot.press("ctrl+g")
        await driver.until(lambda: "cannot step aside" in driver.screen_text, "the sentence")
        assert driver.prompt.text == "keep me"

    monkeypatch.setenv("EDITOR", sys.executable)
    play(scenario)


@pytest.fixture
def loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that makes everything upper case."""
    script = tmp_path / "editor.py"
    script.write_text("import sys, pathlib\np = pathlib.Path(sys.argv[1])\np.write_text(p.read_text().upper())\n")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_the_editor_changes_the_message(loud: None, terminal: Terminal) -> None:
    terminal.press(b"slow words")
    terminal.until(b"words")
    terminal.press(b"\x07")
    terminal.until(b"SLOW WORDS")
    terminal.press(b"\x11")
    assert terminal.wait() == 0


def test_the_web_needs_a_package_and_serves_only_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    with pytest.raises(UsageError, match="pip install textual-serve"):
        main(["--web"])
    monkeypatch.undo()
    package = tmp_path / "textual_serve"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "server.py").write_text(
        "class Server:\n"
        "    def __init__(self, *args, **named):\n        print(args, named)\n"
        "    def serve(self):\n        print('served')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["--web", "--port", "8123", "-c", "a trip"]) == 0
    said = capsys.readouterr().out
    assert "chat -c 'a trip'" in said
    assert "'host': '127.0.0.1', 'port': 8123" in said
    assert said.endswith("served\n")


def test_the_web_flags() -> None:
    assert parse(["--web", "--port", "81"]) == Options(web=True, port=81)
    assert without_web(["--web", "-c", "x", "--port", "81", "--port=9"]) == ["-c", "x"]


def test_every_choice_of_an_engine_is_a_flag_that_reaches_the_request() -> None:
    said = {"model": "fake", "budget": "900MiB", "quant": "nf4", "policy": "h2o", "mode": "exact"}
    options = parse([word for name, value in said.items() for word in (f"--{name}", value)])
    request = Session(options, Preferences())._request("hello", None, None)
    assert request.engine is not None
    assert request.engine.model_dump() == said
