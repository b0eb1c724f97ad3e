"""A model that runs on a server, which is another daemon of ours: the commands know no difference."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.places import Places, find_places
from tests.assistant.command import run, run_json
from tests.assistant.knocking import Door
from tests.conftest import REAL, RunningDaemon
from tests.home import make_home
from tests.worker.tiny_home import end

TOOLS = '''
from assistant.tools import declares

@declares(reads_private=False, brings_untrusted=False, can_send=False, can_write=False, can_exec=False)
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: the other
    """
    return a + b
'''


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[Places, Door]]:
    """The server: a daemon with a scripted worker that listens on loopback."""
    folder = make_home()
    places = find_places({"ASSISTANT_HOME": str(folder)})
    daemon = RunningDaemon(places, ASSISTANT_HOME=str(folder), ASSISTANT_MODEL="fake", ASSISTANT_LISTEN="127.0.0.1:0")
    yield places, Door.of(daemon)
    daemon.close()
    shutil.rmtree(folder)


def entry(name: str, url: str, *lines: str) -> str:
    return "\n".join([f"\n[{name}]", f'source = "openai:{url}#fake"', "context = 8192", *lines, ""])


@pytest.fixture(scope="module")
def here(there: tuple[Places, Door]) -> Iterator[Path]:
    """Our home, whose default model runs over there, and its daemon with the real worker."""
    places, door = there
    folder = make_home()
    with (folder / "config" / "models.toml").open("a") as catalog:
        catalog.write(entry("big", door.url, f'key_file = "{places.token}"'))
        catalog.write(entry("keyed", door.url, 'key_env = "BIG_KEY"'))
        catalog.write(entry("locked", door.url))
    own = find_places({"ASSISTANT_HOME": str(folder)})
    daemon = RunningDaemon(own, REAL, ASSISTANT_HOME=str(folder), ASSISTANT_MODEL="big", BIG_KEY=door.token)
    yield folder
    end(daemon)
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def ours(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("ASSISTANT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSISTANT_HOME", str(here))
    monkeypatch.setenv("ASSISTANT_MODEL", "big")
    return here


def test_a_conversation_its_history_and_search() -> None:
    first = run_json("ask", "-c", "trip", "The code of the bicycle lock is 4711.")
    second = run_json("ask", "-c", "trip", "turns")
    assert "bicycle" in first["text"]
    shown = [turn[:2] for turn in json.loads(second["text"])]
    assert [text for role, text in shown if role == "user"] == ["The code of the bicycle lock is 4711.", "turns"]
    assert second["usage"]["mode"] == "exact"
    assert second["usage"]["prompt_tokens"] > 0
    assert second["model"] == "big"
    (hit,) = [one for one in run_json("search", "bicycle lock 4711") if one["role"] == "user"]
    assert hit["conversation"] == "trip"
    assert "4711" in run("export", "trip").stdout
    assert run("ps").stdout.startswith("big: on a server, ")


def test_an_agent_calls_tools(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    task = 'What is it?\ncall add {"a": 2, "b": 40}\nIt is 42.'
    found = run("agent", "--tools", str(tmp_path / "tools.py"), "--output", "stream-json", task)
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert (events[-1]["text"], events[-1]["calls"]) == ("It is 42.", 1)
    assert [event["result"] for event in events if event["type"] == "call" and event["result"]] == [
        "add(a=2, b=40) returned: 42"
    ]


def test_a_key_in_the_environment_of_the_daemon() -> None:
    assert "hello there" in run("ask", "--model", "keyed", "hello there").stdout


def test_a_key_that_is_missing_is_named() -> None:
    said = run("ask", "--model", "locked", "Hi", code=6).stderr
    assert "401" in said
    assert "key_env or key_file" in said


def test_a_server_that_is_down_loses_nothing(ours: Path) -> None:
    said = run("ask", "-c", "lost", "--model", "openai:http://127.0.0.1:9/v1#x", "Keep this.", code=1).stderr
    assert "http://127.0.0.1:9/v1 does not answer" in said
    assert "Keep this." in run("export", "lost").stdout


def test_what_other_commands_say_of_it() -> None:
    listed = {one["id"]: one for one in run_json("models", "list")}
    assert listed["big"]["present"] is True
    assert listed["big"]["path"].startswith("http://127.0.0.1:")
    assert "on a server" in run("models", "show", "big").stdout
    assert "nothing of it lies on this machine" in run("models", "pull", "big", code=2).stderr
    assert "nothing of it lies on this machine" in run("models", "rm", "big", code=2).stderr
    doctor = {one["check"]: one for one in run_json("doctor")["findings"]}
    assert doctor["model"]["ok"]
    assert "fake on http://127.0.0.1:" in doctor["model"]["says"]
