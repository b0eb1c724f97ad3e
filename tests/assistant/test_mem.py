"""`assistant mem`: every byte by tier and purpose, with the worker, without it, and with one that is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from assistant.commands.mem import as_record, show
from assistant.protocol import KvStatus, MemoryReport, MemorySplit, ResidentSet, TierUse
from tests.assistant.command import run, run_json
from tests.assistant.talk import with_client
from tests.conftest import RunningDaemon, wait_until

TIERS = ("device", "ram", "disk")
MIB = 1024**2


def test_the_parts_and_the_gap_are_the_total(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "hello")
    report = run_json("mem")
    assert report["model"] == "fake"
    assert report["memory"]["budget"] == report["kv"]["device"]["limit"]
    for tier in (report["kv"][name] for name in TIERS):
        assert sum(tier["parts"].values()) + tier["gap"] == tier["total"]
    assert [(one["conversation"], one["state"]) for one in report["kv"]["sets"]] == [("trip", "active")]


def test_the_table_labels_what_is_planned_and_what_is_measured(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "hello")
    shown = [line.split() for line in run("mem").stdout.splitlines()]
    for row in (
        "device weights 100 MiB planned",
        "device not accounted for 9 MiB difference",
        "device total 110 MiB measured now",
        "device budget 900 MiB as set",
        "disk chunks 5 MiB counted",
        "disk total 6 MiB measured now",
        "RAM not used",
        "trip active 100 100 1 MiB",
    ):
        assert row.split() in shown
    assert shown[-1][-3:] == ["rows", "sealed", "7"]


def test_without_a_worker_the_disk_is_looked_at(daemon: RunningDaemon) -> None:
    assert run_json("mem")["kv"]["disk"]["total"] == 0
    run("ask", "hello")
    end_the_worker()
    kv = run_json("mem")["kv"]
    files = [path for path in daemon.places.kv.rglob("*") if path.is_file()]
    assert kv["disk"]["parts"]["tails"] > 0
    assert (kv["disk"]["gap"], kv["disk"]["total"]) == (0, sum(path.stat().st_size for path in files))
    assert kv["disk"]["limit"] == 20 * 2**30
    assert (kv["device"]["total"], kv["sets"]) == (0, [])
    assert "none loaded" in run("mem").stdout


def test_spill_off_shows_what_is_left_on_disk_without_a_limit(start_daemon: Callable[..., RunningDaemon]) -> None:
    first = start_daemon()
    run("ask", "hello")
    first.signal(signal.SIGTERM)
    start_daemon(ASSISTANT_SPILL="false")
    disk = run_json("mem")["kv"]["disk"]
    assert disk["total"] > 0
    assert disk["limit"] is None


def test_a_plan_that_is_not_used_up_is_a_negative_gap() -> None:
    device = TierUse(parts={"weights": 100 * MIB, "free KV": 50 * MIB}, total=120 * MIB)
    record = as_record(MemoryReport(model="m", memory=MemorySplit(), kv=KvStatus(device=device)))
    assert record["kv"]["device"]["gap"] == -30 * MIB  # type: ignore[index]


def test_layers_with_budgets_of_their_own_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    one = ResidentSet(conversation="trip", tokens=2100, entries=1400, least=700, bytes=MIB, state="active")
    show(MemoryReport(model="m", memory=MemorySplit(), kv=KvStatus(sets=[one], layers=[1400, 700, 900])))
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["trip", "active", "2,100", "700-1,400", "1", "MiB"] in shown
    assert shown[-1][-3:] == ["1400", "700", "900"]


def end_the_worker() -> None:
    """Kill the worker; the daemon has noticed when this returns."""
    pid = with_client(lambda client: client.status()).worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: with_client(lambda client: client.status()).worker_pid is None, "the daemon has noticed")
