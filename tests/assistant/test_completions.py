"""Shell completions: the scripts, and what a shell that uses them gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.cli import COMMANDS
from tests.assistant.command import run

SCRIPTED = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={at}
_assistant_completion assistant
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def on_the_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `assistant` is a command."""
    program = tmp_path / "assistant"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom assistant.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}


def completed(words: list[str], tmp_path: Path, environment: dict[str, str]) -> list[str]:
    """What bash offers for the last of `words`."""
    script = tmp_path / "script"
    script.write_text(run("completions", "bash").stdout)
    text = SCRIPTED.format(script=script, words=" ".join(f"'{word}'" for word in words), at=len(words) - 1)
    shell = ["bash", "--norc", "--noprofile", "-c", text]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands(home: Path, tmp_path: Path, on_the_path: dict[str, str]) -> None:
    assert completed(["assistant", "conv"], tmp_path, on_the_path) == ["conversations"]
    assert completed(["assistant", "conversations", "re"], tmp_path, on_the_path)[:1] == ["rename"]


def test_bash_completes_options(home: Path, tmp_path: Path, on_the_path: dict[str, str]) -> None:
    assert completed(["assistant", "export", "--form"], tmp_path, on_the_path) == ["--format"]
    assert set(completed(["assistant", "export", "--format", "j"], tmp_path, on_the_path)) == {"json", "jsonl"}


def test_every_command_is_offered(home: Path, tmp_path: Path, on_the_path: dict[str, str]) -> None:
    assert set(completed(["assistant", ""], tmp_path, on_the_path)) == set(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_that_shell(home: Path, tmp_path: Path, shell: str) -> None:
    script = run("completions", shell).stdout
    assert f"complete_{shell}" in script
    if shutil.which(shell):  # without the shell there is nothing more to ask
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_another_shell_is_a_sentence(home: Path) -> None:
    assert "csh" in run("completions", "csh", code=2).stderr
