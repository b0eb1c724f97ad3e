"""`assistant mem`: every byte by tier and purpose, with the worker, without it, and with one that is gone."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from assistant.commands.mem import as_record
from assistant.commands.mem_text import show
from assistant.reports import KvStatus, MemoryReport, MemorySplit, ResidentSet, TierUse
from tests.assistant.command import run, run_json
from tests.assistant.talk import end_the_worker, with_client
from tests.conftest import RunningDaemon

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
    ):
        assert row.split() in shown
    resident = next(line for line in shown if line[:2] == ["trip", "active"])
    assert resident[2:6] == ["100", "100", "1", "MiB"]
    assert resident[6:8] in ([], ["for", "user,"])  # for two seconds; then nothing pins it
    assert shown[-1][-3:] == ["rows", "sealed", "7"]


def test_the_meter_adds_up_and_the_system_agrees(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "hello")
    record = run_json("mem")
    drawn, outside = record["meter"], record["outside"]
    assert sum(part["bytes"] for part in drawn["parts"]) == drawn["budget"] == 900 * MIB
    assert (drawn["measured"], drawn["unused"]) == (110 * MIB, 0)
    assert {part["name"]: part["bytes"] for part in drawn["parts"]}["unaccounted"] == 9 * MIB
    assert outside["seen"] == outside["ours"] + sum(part["bytes"] for part in outside["parts"]) + outside["gap"]
    assert record["kv"]["disk"]["conversations"] == {"trip": 5 * MIB}
    assert record["forecast"]["estimate"]
    shown = run("mem", "-c", "trip").stdout
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert lines[1] == "Budget 900 MiB, 110 MiB in use"
    bar = lines[2].strip("[]")
    assert len(bar) == 64
    assert set(bar) == set("█▓?·")
    assert "? unaccounted 9 MiB" in lines[3]
    assert lines[4] == "The system sees 160 MiB: in use 110 MiB + Python and libraries 50 MiB"
    assert any(line.startswith("About ") and "an estimate, from 1 turn" in line for line in lines)


def test_what_happened_to_the_tokens(daemon: RunningDaemon) -> None:
    assert "Nothing has left" in run("mem", "--ledger").stdout
    run("ask", "-c", "trip", "x" * 5000)
    run("ask", "-c", "work", "hello")
    (entry,) = run_json("mem", "--ledger", "-c", "trip")["ledger"]
    assert entry["kind"] == "left"
    shown = run("mem", "--ledger", "-c", "trip").stdout
    assert f"{entry['tokens']:,} tokens left the working set (4,096 of " in " ".join(shown.split())
    assert "Nothing has left" in run("mem", "--ledger").stdout, "the latest conversation is another one"
    run("conversations", "pin", "trip")
    assert run_json("mem")["conversation"] == "work", "also where the list begins with one that is pinned"


def test_a_budget_is_planned_before_it_is_used(daemon: RunningDaemon) -> None:
    run("ask", "-c", "trip", "x" * 5000)
    record = run_json("mem", "--plan", "450MiB")
    assert (record["now"]["budget"], record["then"]["budget"]) == (900 * MIB, 450 * MIB)
    lines = {line["what"]: (line["now"], line["then"]) for line in record["lines"]}
    assert lines["entries at most"] == (4096, 2048)
    assert lines["KV"] == (150 * MIB, 75 * MIB)
    shown = [line.split() for line in run("mem", "--plan", "450MiB").stdout.splitlines()]
    assert ["entries", "at", "most", "4,096", "2,048"] in shown
    assert ["Nothing", "was", "changed.", "To", "use", "it:", "assistant", "chat", "--budget", "450MiB"] in shown
    assert run_json("mem")["memory"]["budget"] == 900 * MIB
    refused = run("mem", "--plan", "100MiB", code=5)
    assert "The smallest budget that works is 200 MiB." in refused.stderr
    assert refused.stdout == ""
    assert "is not a size" in run("mem", "--plan", "much", code=2).stderr


def test_without_a_worker_the_disk_is_looked_at(daemon: RunningDaemon) -> None:
    assert run_json("mem")["kv"]["disk"]["total"] == 0
    run("ask", "hello")
    with_client(end_the_worker)
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
