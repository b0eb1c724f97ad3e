"""Fixtures for everything that needs places, a model that is "here", or a daemon: a real one with a scripted worker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from assistant.daemon.probe import listener
from assistant.places import Places, find_places
from memory.minilm import PACKAGE, VERSION
from tests.home import make_home

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored

os.environ.setdefault("OMP_NUM_THREADS", "1")  # many processes share the cores
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of the processes that are started compiles the program

settings.register_profile("suite", deadline=None)  # an example may wait for the other processes
settings.load_profile("suite")

FAKE_DAEMON = Path(__file__).with_name("fake_daemon.py")
FAKE = (sys.executable, "-P", str(FAKE_DAEMON))
REAL = (sys.executable, "-P", "-m", "assistant.cli", "daemon", "run")
DEADLINE_S = 20.0


def wait_until(true: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
    """Poll a predicate; fail with `what` when it is not true in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.01)


def broken_embeddings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started now find an embedding model without files."""
    info = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n")
    (info / "RECORD").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own ASSISTANT_HOME with a short path (sockets), and the model `fake` in its catalogue, as the default."""
    folder = make_home()
    enter_home(folder, monkeypatch)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def places(home: Path) -> Places:
    """The places under `home`."""
    return find_places()


class RunningDaemon:
    """A daemon in a child process, and the means to hurt it."""

    def __init__(self, places: Places, command: Sequence[str] = FAKE, **environment: str) -> None:
        self.places = places
        self.process = subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: listener(places.socket) == self.pid or self.process.poll() is not None, "it answers or ends")

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def start_daemon(places: Places) -> Iterator[Callable[..., RunningDaemon]]:
    """Start daemons; they are ended after the test."""
    started: list[RunningDaemon] = []

    def start(**environment: str) -> RunningDaemon:
        started.append(RunningDaemon(places, **environment))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def daemon(start_daemon: Callable[..., RunningDaemon]) -> RunningDaemon:
    """A running daemon."""
    return start_daemon()


@pytest.fixture
def daemon_log(places: Places) -> Callable[[], str]:
    """What the daemon of this test has logged so far."""
    return lambda: places.log.read_text()


@pytest.fixture(scope="session")
def _shared() -> Iterator[RunningDaemon]:
    folder = make_home()
    places = find_places({"ASSISTANT_HOME": str(folder)})
    daemon = RunningDaemon(places, ASSISTANT_HOME=str(folder), ASSISTANT_MODEL="fake", ASSISTANT_LISTEN="127.0.0.1:0")
    yield daemon
    daemon.close()
    shutil.rmtree(folder)


@pytest.fixture
def shared_daemon(_shared: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> RunningDaemon:
    """A daemon that many tests use, for what leaves nothing behind (refusals) or is judged by its own names."""
    enter_home(_shared.places.runtime.parent, monkeypatch)
    return _shared


def enter_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` the ASSISTANT_HOME of this test, with no other setting from outside."""
    for name in [name for name in os.environ if name.startswith("ASSISTANT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSISTANT_HOME", str(folder))
    monkeypatch.setenv("ASSISTANT_MODEL", "fake")
