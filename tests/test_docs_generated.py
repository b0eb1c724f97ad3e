"""The reference pages are what `docs/generate.py` writes, wherever it runs, and they say what the program has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.agent.policy import POLICY_FILE
from assistant.cli import _all, _command
from assistant.errors import Exit
from assistant.places import find_places
from assistant.settings import Settings
from tui.commands import COMMANDS
from tui.keys import bindings_of, sections

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAMES = ("configuration.md", "keys.md", "commands.md", "policies.md", "assistant.1")
SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "FILES", "ENVIRONMENT"]
MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".RS", ".RE", ".nf", ".fi"}
ELSEWHERE = {
    "PYTHONPATH": str(ROOT),
    "ASSISTANT_BUDGET": "1GiB",
    "ASSISTANT_KEYS": '{"new": "ctrl+e"}',
    "COLUMNS": "30",
    "FORCE_COLOR": "1",
    "LC_ALL": "C",
    "TERM": "dumb",
    "USER": "somebody",
}
GENERATE = f"""
import runpy, sys
sys.path.insert(0, {str(DOCS)!r})
sys.argv[1:] = ["."]
runpy.run_path({str(DOCS / "generate.py")!r}, run_name="__main__")
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder with the pages as another user writes them, in another terminal; and what was imported for that."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "assistant.toml").write_text('theme = "light"\n')
    (folder / "config").mkdir()
    (folder / "config" / "config.toml").write_text('model = "other"\n')
    environment = os.environ | ELSEWHERE | {"HOME": str(folder), "ASSISTANT_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", GENERATE], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return folder, set(done.stdout.split())


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_the_code_says_now(elsewhere: tuple[Path, set[str]], name: str) -> None:
    folder, _ = elsewhere
    assert (folder / name).read_text(encoding="utf-8") == read(name), f"docs/{name} is out of date. Run: make docs"


def test_writing_the_pages_imports_nothing_heavy(elsewhere: tuple[Path, set[str]]) -> None:
    _, imported = elsewhere
    assert "tui.keys" in imported
    assert not {"torch", "transformers", "bitsandbytes"} & imported


def test_every_setting_has_its_row() -> None:
    page = read("configuration.md")
    for name, field in Settings.model_fields.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` | `ASSISTANT_")]
        assert f"`ASSISTANT_{name.upper()}`" in row
        assert row.endswith(f"| {field.description} |")
        default = field.get_default(call_default_factory=True)
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert (
            f"| `{shown}` |" in row or (default is None and "| unset |" in row) or (not default and "| none |" in row)
        )


@pytest.mark.skipif(sys.platform != "linux", reason="the page names the folders of Linux")
def test_the_folders_are_those_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    places = find_places({})
    files = [places.user_settings, places.user_catalog, places.config / POLICY_FILE, places.history, places.models]
    for file in (*files, places.kv, places.token, places.log, places.socket):
        shown = str(file).replace("/home/somebody", "~").replace("/run/user/7", "$XDG_RUNTIME_DIR")
        assert f"| `{shown}` |" in read("configuration.md")


def test_every_key_and_command_of_the_chat_is_there() -> None:
    rows = read("keys.md").splitlines()
    for _, owner in sections():
        for one in bindings_of(owner):
            keys = ", ".join(f"`{key}`" for key in one.key.split(","))
            assert f"| {keys} | {one.description} | `{one.id}` |" in rows
    for command in COMMANDS:
        assert [row for row in rows if row.startswith(f"| `/{command.name}") and row.endswith(f"| {command.words} |")]


def test_every_exit_code_has_a_meaning() -> None:
    for code in Exit:
        assert re.search(rf"^\| {int(code)} \| \w.* \|$", read("commands.md"), re.MULTILINE)
        assert re.search(rf"^\.TP\n\\fB{int(code)}\\fR\n\w", read("assistant.1"), re.MULTILINE)


def test_the_man_page_has_the_form_of_one() -> None:
    first, *lines = read("assistant.1").splitlines()
    assert first.startswith(".TH ASSISTANT 1 ")
    assert [line.removeprefix(".SH ") for line in lines if line.startswith(".SH ")] == SECTIONS
    assert {line.split()[0] for line in lines if line.startswith(".")} <= MACROS
    assert all(line.isascii() and line and not line.startswith("'") for line in lines)
    assert not [line for line in lines if re.search(r"(?<!\\)-", line)], "a hyphen that is no minus"


def test_the_man_page_has_every_command_and_option() -> None:
    page = read("assistant.1").replace(r"\-", "-")
    parts = dict(re.findall(r"^\.SS (assistant(?: [a-z]+)+)(.*?)(?=^\.S[SH] )", page, re.MULTILINE | re.DOTALL))
    assert set(parts) == set(commands("assistant", _command(_all())))
    for name, options in commands("assistant", _command(_all())).items():
        assert all(rf"\fB{option}\fR" in parts[name] for option in options), name


def commands(name: str, command: object) -> dict[str, list[str]]:
    """Every command below this one, with the options that its help shows."""
    found: dict[str, list[str]] = {}
    for word, inner in getattr(command, "commands", {}).items():
        shown = [one for one in inner.params if one.param_type_name == "option" and not one.hidden]
        found[f"{name} {word}"] = [option for one in shown for option in one.opts]
        found |= commands(f"{name} {word}", inner)
    return found
