"""A daemon of another version: who is older is said, and a restart offered to whoever can answer."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator

import pytest

from assistant.daemon.probe import holder
from assistant.places import Places
from assistant.protocol import PROTOCOL
from tests.assistant.command import PROGRAM, all_of, run
from tests.assistant.talk import other_daemon
from tests.conftest import DEADLINE_S


@pytest.fixture
def old(places: Places) -> Iterator[subprocess.Popen[bytes]]:
    """An older daemon, and the end of whatever took its place."""
    with other_daemon(places, PROTOCOL - 1) as process:
        yield process


def typed(answer: str, *args: str) -> tuple[int, str]:
    """Run a command on a terminal where this is typed; (exit code, what the terminal shows)."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen([*PROGRAM, *args], stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = all_of(ours)
    return command.wait(DEADLINE_S), shown


def test_a_script_gets_the_sentence(old: subprocess.Popen[bytes]) -> None:
    said = run("conversations", "list", code=7).stderr
    assert f"(version 0.0.1, protocol {PROTOCOL - 1}, pid {old.pid}) is older than this program" in said
    assert said.endswith("Run: assistant daemon restart\n")
    assert "[y/N]" not in said
    assert old.poll() is None


def test_at_a_terminal_it_is_restarted_and_the_command_goes_on(old: subprocess.Popen[bytes], places: Places) -> None:
    code, shown = typed("y\n", "conversations", "list")
    assert "is older than this program" in shown
    assert code == 0
    assert old.wait(DEADLINE_S) == -signal.SIGTERM
    assert holder(places.lock) not in (None, old.pid)
    assert run("conversations", "list").returncode == 0


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_without_a_yes_nothing_happens(old: subprocess.Popen[bytes], answer: str) -> None:
    code, shown = typed(answer, "conversations", "list")
    assert (code, "[y/N]" in shown) == (7, True)
    assert old.poll() is None


def test_ctrl_c_at_the_question_is_a_no(old: subprocess.Popen[bytes]) -> None:
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*PROGRAM, "conversations", "list"], stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    shown = b""
    while b"[y/N] " not in shown:
        shown += os.read(ours, 65536)
    command.send_signal(signal.SIGINT)
    assert command.wait(DEADLINE_S) == 130
    os.close(ours)
    assert old.poll() is None


def test_json_is_for_scripts(old: subprocess.Popen[bytes]) -> None:
    code, shown = typed("y\n", "conversations", "list", "--json")
    assert (code, "[y/N]" in shown) == (7, False)
    assert old.poll() is None
