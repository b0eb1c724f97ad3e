"""What the panels show, without Textual: lines of memory, budget, map and why, and how sizes are moved."""

from __future__ import annotations

from datetime import UTC

import pytest
from rich.cells import cell_len

from assistant.reports import SERVER, KvStatus, MemoryReport, MemorySplit, Outside, StoredUse, TierUse
from assistant.views.atlas import atlas, rows
from assistant.views.plan import written
from assistant.views.reason import Passage
from tests.assistant.views.made import episodes, turn, usage
from tui.panels.budget import mebibytes, moved, plan_lines
from tui.panels.episodes import about, headline, legend, topics
from tui.panels.lines import Line, table, wrapped
from tui.panels.memory import NEWEST, memory_lines
from tui.panels.why import asked, passage_line, place

MIB = 1024**2
PLAN = MemorySplit(
    budget=900 * MIB, weights=500 * MIB, kv=200 * MIB, capacity_tokens=4096, working_set_tokens=4000, device="cpu"
)


def text(lines: list[Line]) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def report(**kv: object) -> MemoryReport:
    parts = {"weights": 500 * MIB, "working sets": 40 * MIB, "free KV": 160 * MIB}
    device = TierUse(parts=parts, total=600 * MIB, limit=900 * MIB, conversations={"trip": 40 * MIB})
    return MemoryReport(model="m", memory=PLAN, kv=KvStatus.model_validate({"device": device} | kv))


def test_memory_shows_the_sum_the_gap_and_who_holds_what() -> None:
    disk = TierUse(parts={"chunks": 8 * MIB}, total=10 * MIB, conversations={"trip": 6 * MIB, "[b]x": 2 * MIB})
    outside = Outside(seen=1000 * MIB, parts={"Python and libraries": 390 * MIB}, capacity=8000 * MIB)
    counters = {"ram_rows_out": 3, "rows_read": 1, "bytes_written": 2 * MIB}
    shown = text(memory_lines(report(disk=disk, outside=outside, counters=counters), [], "trip", 90))
    for words in (
        "600 MiB in use of a budget of 900 MiB",
        "100 MiB of what is set aside is not in use now.",
        "The system sees 1000 MiB: in use 600 MiB + Python and libraries 390 MiB, 10 MiB unaccounted",
        "Forecast for trip\nNo forecast yet",
        "set aside, not in use  -100 MiB  difference",
        "of the rows read, in RAM      75%",
        "bytes written to disk     2.0 MiB",
        "Nothing has left the working set",
    ):
        assert words in shown, f"{words!r} in\n{shown}"
    held = [line.split() for line in shown.splitlines()]
    assert ["trip", "40", "MiB", "-", "6.0", "MiB"] in held
    assert ["[b]x", "-", "-", "2.0", "MiB"] in held
    assert all(len(line) <= 90 for line in shown.splitlines() if "█" in line)


def test_memory_says_what_forks_share_and_what_episodes_hold() -> None:
    forks = [
        StoredUse(conversation="trip", own=9, shared=0),
        StoredUse(conversation="fork", own=0, shared=8 * MIB, origin="trip"),
        StoredUse(conversation="late", own=MIB, shared=7 * MIB, origin="trip"),
    ]
    found = episodes(8, residency=[1.0] * 4 + [0.0] * 4, stored=512)
    shown = text(memory_lines(report(stored=forks), [], "trip", 90, found))
    assert "fork, forked from trip: 0 B of its own until it diverges" in shown
    assert "late, forked from trip: 1.0 MiB of its own, 7.0 MiB shared" in shown
    held = [line.split() for line in shown.splitlines()]
    assert ["1", "topic", "1", "256", "40", "MiB", "-"] in held
    assert ["2", "topic", "2", "256", "-", "-"] in held


def test_memory_of_a_model_that_a_server_runs_says_so() -> None:
    served = MemoryReport(model="big", memory=MemorySplit(device=SERVER), kv=KvStatus())
    assert text(memory_lines(served, [], None, 60)).startswith("The model runs on a server")
    assert served.memory.where == "on a server"


def test_memory_without_a_model_says_so() -> None:
    empty = MemoryReport(model=None, memory=MemorySplit(), kv=KvStatus(notice="The worker is busy."))
    shown = text(memory_lines(empty, [], None, 60))
    assert shown.startswith("No model is loaded")
    assert "The worker is busy." in shown
    assert "Forecast" not in shown


def test_a_long_ledger_shows_the_latest_and_counts_the_others() -> None:
    records = [usage(stored_tokens=100 * at, resident_tokens=50) for at in range(1, NEWEST + 10)]
    shown = text(memory_lines(report(), [turn(2 * at, usage=one) for at, one in enumerate(records)], "trip", 80))
    ledger = shown[shown.index("Ledger") :].splitlines()
    assert ledger[1].startswith(f"turn {2 * len(records) - 2}  100 tokens left the working set")
    assert ledger[-1] == "9 earlier ones: assistant mem --ledger"
    assert len(ledger) == NEWEST + 2


@pytest.mark.parametrize("width", [20, 33, 80, 300])
def test_tables_keep_their_columns_at_every_width(width: int) -> None:
    made = table([("a long name of a conversation 漢字 " * 3, "1 MiB"), ("b", "20 MiB")], (1,), width)
    assert len({cell_len("".join(part for part, _ in line)) for line in made}) == 1
    assert ["".join(part for part, _ in line).rstrip()[-6:] for line in made] == [" 1 MiB", "20 MiB"]
    assert table([], (), width) == []
    assert all(cell_len(text([line])) <= max(width, 12) for line in wrapped([("ten cells.", "")] * 9, width))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("900MiB", 900),
        ("1.5 GiB", 1536),
        ("1048576", 1),
        ("2g", 2e9 / MIB),
        ("1MB", 1e6 / MIB),
        ("", None),
        ("x1", None),
    ],
)
def test_sizes_as_they_are_typed(typed: str, found: float | None) -> None:
    assert mebibytes(typed) == found


@pytest.mark.parametrize(
    ("typed", "steps", "then"),
    [
        ("900MiB", 1, "960MiB"),
        ("900MiB", -1, "896MiB"),
        ("896MiB", -1, "832MiB"),
        ("1GiB", 8, "1536MiB"),
        ("32MiB", -8, "16MiB"),
        ("nothing", 1, "576MiB"),
        ("", -1, "448MiB"),
    ],
)
def test_arrows_move_a_size_by_whole_steps(typed: str, steps: int, then: str) -> None:
    assert moved(typed, steps, 512 * MIB) == then


def test_a_size_is_written_so_that_it_is_the_same_again() -> None:
    assert (written(900 * MIB), written(900 * MIB + 1)) == ("900MiB", str(900 * MIB + 1))


def test_a_plan_beside_the_one_in_force() -> None:
    then = PLAN.model_copy(update={"budget": 600 * MIB, "kv": 20 * MIB, "working_set_tokens": 400})
    shown = [" ".join(line.split()) for line in text(plan_lines(PLAN, then, 5000, 60)).splitlines()]
    for words in ("KV 200 MiB 20 MiB", "tokens kept verbatim 4,000 400", "of the 5,000 stored here 80% 8%"):
        assert words in shown
    assert shown[-1].startswith("The next message loads the model again")
    assert "in force" in text(plan_lines(PLAN, PLAN, None, 60))
    guess = then.model_copy(update={"estimated": True})
    alone = text(plan_lines(MemorySplit(), guess, None, 60))
    assert "An estimate from the shape of the model" in alone
    assert "KV" in alone


def test_the_map_says_what_is_under_the_cursor_and_what_the_marks_mean() -> None:
    said = [turn(1, text="one [b]x[/b]\nline two"), turn(2), turn(3), turn(4)]
    drawn = atlas(said, episodes(4, residency=[1.0, 1.0, 0.5, 0.0], stored=256), UTC)
    assert headline("trip", drawn, rows(drawn, 9), "") == "trip · 1 sitting, 4 turns"
    assert headline("trip", drawn, rows(drawn, 9, "[b]"), "[b]") == "trip · 1 sitting, 4 turns · 2 match “[b]”"
    lines = text(about(drawn[0].cells[0], {1: "dogs"}, 60)).splitlines()
    assert lines[0] == "turns 1-2 · 128 tokens · verbatim, 100% on the device · episode 1 (dogs)"
    assert lines[1] == "user: one [b]x[/b] line two"
    assert text(about(None, {}, 60)) == "Nothing matches."
    counts = [line.split()[:4] for line in text(legend(drawn)).splitlines()]
    assert counts[:2] == [["█", "verbatim", "128", "tokens"], ["▒", "compressed", "128", "tokens"]]
    assert text(topics(drawn, {1: "dogs"}, 60)).strip() == "1 dogs 256 tokens"
    assert "no episodes yet" in text(topics([], {}, 60))


def test_why_begins_at_the_question_of_any_turn() -> None:
    said = [turn(1), turn(2), turn(3), turn(4), turn(5)]
    questions = asked(said)
    assert [one.id for one in questions] == [1, 3, 5]
    assert [place(said, questions, at) for at in (None, 1, 2, 3, 4, 5, 99)] == [2, 0, 0, 1, 1, 2, 2]
    assert place([], [], None) == 0
    assert text(passage_line(Passage("heading", "Recalled"))) == "\nRecalled"
    assert text(passage_line(Passage("quote", "said", 3))) == "  said"
