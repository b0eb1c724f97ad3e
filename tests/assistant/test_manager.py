"""A daemon under a service manager: it takes the socket it is handed, says how it fares, is found by its lock."""

from __future__ import annotations

import configparser
import os
import plistlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.daemon.probe import holder, listener
from assistant.places import Places
from tests.assistant.command import run, run_json
from tests.assistant.talk import ask, done_of, with_client
from tests.conftest import DEADLINE_S, FAKE_DAEMON, wait_until

ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": sys.argv[2]}
os.execv(sys.executable, [sys.executable, "-P", *sys.argv[3:]])
"""
"""Becomes the daemon with a socket as file descriptor 3, as systemd does it."""


class FakeManager:
    """Listens in the daemon's place, starts it when asked, and hears its news."""

    def __init__(self, path: Path, news: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(str(path))
        self.door.listen()
        self.news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.news.bind(str(news))
        self.news.settimeout(DEADLINE_S)
        self.environment = os.environ | {"NOTIFY_SOCKET": str(news)}
        self.daemons: list[subprocess.Popen[str]] = []

    def start(self, count: int = 1) -> subprocess.Popen[str]:
        self.daemons.append(
            subprocess.Popen(
                [sys.executable, "-c", ACTIVATE, str(self.door.fileno()), str(count), str(FAKE_DAEMON)],
                pass_fds=[self.door.fileno()],
                env=self.environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self.daemons[-1]

    def hears(self) -> str:
        return self.news.recv(100).decode()

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
            assert daemon.stderr is not None
            daemon.stderr.close()
        self.door.close()
        self.news.close()


@pytest.fixture
def manager(places: Places, home: Path) -> Iterator[FakeManager]:
    found = FakeManager(places.socket, home / "news")
    yield found
    found.close()


def test_who_connects_before_the_daemon_runs_is_answered_by_it(manager: FakeManager, places: Places) -> None:
    with socket.socket(socket.AF_UNIX) as early:
        early.settimeout(DEADLINE_S)
        early.connect(str(places.socket))
        early.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        daemon = manager.start()
        assert early.recv(1000).startswith(b"HTTP/1.1 200")
    assert manager.hears() == "READY=1"
    assert holder(places.lock) == listener(places.socket) == daemon.pid
    assert done_of(with_client(lambda client: ask(client, "hello"))).finish == "stop"
    daemon.terminate()
    assert manager.hears() == "STOPPING=1"
    assert daemon.wait(DEADLINE_S) == 143
    assert places.socket.exists(), "it belongs to the manager, which starts the next daemon"
    second = manager.start()
    assert manager.hears() == "READY=1"
    assert [turn.role for turn in with_client(lambda client: client.turns("demo"))] == ["user", "assistant"]
    assert second.poll() is None


def test_a_manager_that_listens_is_no_daemon_that_could_be_stopped(manager: FakeManager, places: Places) -> None:
    assert listener(places.socket) == os.getpid()
    assert run_json("daemon", "stop") == {"running": False, "pid": None, "stopped": False}
    daemon = manager.start()
    assert manager.hears() == "READY=1"
    assert run_json("daemon", "stop") == {"running": False, "pid": daemon.pid, "stopped": True}
    assert daemon.wait(DEADLINE_S) == 143
    assert run_json("daemon", "stop")["pid"] is None


def test_start_waits_for_the_daemon_that_the_manager_starts(manager: FakeManager, places: Places) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-P", "-m", "assistant.cli", "daemon", "start"], stdout=subprocess.PIPE, text=True
    )
    manager.door.settimeout(DEADLINE_S)
    manager.door.accept()[0].close()  # it came
    daemon = manager.start()
    out, _ = starting.communicate(timeout=DEADLINE_S)
    assert f"pid {daemon.pid}" in out


@pytest.mark.parametrize("wrong", ["too many", "elsewhere"])
def test_a_door_where_no_client_looks_is_refused(manager: FakeManager, places: Places, home: Path, wrong: str) -> None:
    if wrong == "elsewhere":
        manager.environment["ASSISTANT_HOME"] = str(home / "other")
    daemon = manager.start(2 if wrong == "too many" else 1)
    assert daemon.wait(DEADLINE_S) == 2
    assert daemon.stderr is not None
    assert "Print the unit anew: assistant daemon service systemd-socket" in daemon.stderr.read()


def test_sockets_for_another_process_are_left_alone(manager: FakeManager, places: Places) -> None:
    """The variables of a parent that was activated itself mean that parent."""
    manager.door.close()
    places.socket.unlink()
    manager.environment |= {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    daemon = subprocess.Popen([sys.executable, "-P", str(FAKE_DAEMON)], env=manager.environment, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: listener(places.socket) == daemon.pid, "it binds a socket of its own")
        assert manager.hears() == "READY=1"
    finally:
        daemon.kill()
        daemon.communicate()


def test_news_go_to_an_abstract_socket_too(manager: FakeManager) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
        news.bind(f"\0assistant-{os.getpid()}")
        news.settimeout(DEADLINE_S)
        manager.environment["NOTIFY_SOCKET"] = f"@assistant-{os.getpid()}"
        manager.start()
        assert news.recv(100) == b"READY=1"


def read(kind: str) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#", delimiters="=")
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(run("daemon", "service", kind).stdout)
    return unit


def test_units_of_systemd(home: Path, places: Places) -> None:
    service, opening = read("systemd"), read("systemd-socket")
    assert service["Service"]["Type"] == "notify"
    words = f'"{sys.executable}" "-P" "-m" "assistant.cli" "daemon" "run"'
    assert service["Service"]["ExecStart"] == words
    assert service["Service"]["Environment"] == f'"ASSISTANT_HOME={home}"'
    assert service["Service"]["TimeoutStopSec"] == "20"
    assert opening["Socket"]["ListenStream"] == str(places.socket)
    assert opening["Socket"]["SocketMode"] == "0600"


def test_what_systemd_would_replace_is_escaped(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("ASSISTANT_MODELS", '/a b/100%/"$x"')
    assert '\nEnvironment="ASSISTANT_MODELS=/a b/100%%/\\"$x\\""\n' in run("daemon", "service", "systemd").stdout


def test_the_property_list_of_launchd(home: Path) -> None:
    listed = plistlib.loads(run("daemon", "service", "launchd").stdout.encode())
    assert listed["ProgramArguments"] == [sys.executable, "-P", "-m", "assistant.cli", "daemon", "run"]
    assert listed["EnvironmentVariables"] == {"ASSISTANT_HOME": str(home)}


def test_another_kind_is_a_sentence(home: Path) -> None:
    assert "openrc" in run("daemon", "service", "openrc", code=2).stderr
