"""`assistant tools list`: what a tools file offers, without a daemon and without a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.assistant.command import run, run_json

EXAMPLE = Path(__file__).parents[2] / "examples" / "tools.py"


@pytest.fixture
def no_daemon(home: Path) -> Path:
    """A home in which none runs, and none is started."""
    return home / "run" / "daemon.sock"


def test_a_file_is_listed_as_json(no_daemon: Path) -> None:
    record = run_json("tools", "list", str(EXAMPLE), "--json")
    assert [tool["name"] for tool in record["tools"]] == ["multiply", "weather"]
    multiply = record["tools"][0]
    assert multiply["parameters"]["properties"]["a"] == {"type": "number", "description": "The first factor."}
    assert (multiply["traits"], multiply["origin"], multiply["off"]) == ([], "tools.py", None)
    assert len(multiply["digest"]) == 64
    assert not no_daemon.exists()


def test_a_file_is_listed_for_people(no_daemon: Path) -> None:
    shown = run("tools", "list", str(EXAMPLE)).stdout.splitlines()
    assert shown[:2] == ["multiply(a, b) · harmless", "  Multiply two numbers."]


def test_without_a_file_the_built_in_tools_are_listed(no_daemon: Path) -> None:
    record = run_json("tools", "list", "--json")
    assert [tool["name"] for tool in record["tools"]] == [
        "list_dir",
        "python",
        "read_file",
        "search_history",
        "shell",
    ]


def test_without_a_sandbox_it_is_said_what_is_off(
    no_daemon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys\n"
        "from assistant.agent import landlock\n"
        "landlock.version = lambda: 0\n"
        "from assistant.cli import main\n"
        "sys.exit(main(['tools', 'list']))\n"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "The tool python can execute, so it is off: there is no sandbox here." in done.stderr
    assert "The tool shell can execute" in done.stderr
    assert "read_file can" not in done.stderr


def test_a_file_with_an_error_ends_with_2_and_names_the_line(no_daemon: Path, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text('\ndef broken(a):\n    """Do."""\n')
    done = run("tools", "list", str(tmp_path / "tools.py"), code=2)
    assert done.stderr == "assistant: tools.py, line 2: the tool broken has no type for its parameter 'a'.\n"
    assert done.stdout == ""
