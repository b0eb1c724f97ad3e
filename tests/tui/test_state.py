"""From the daemon's events to what the status lines say: pure functions, no Textual."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from assistant.protocol import (
    Accepted,
    Done,
    Event,
    Evicted,
    Failed,
    Loading,
    Piece,
    Prefill,
    Queued,
    Switched,
    Turn,
    Usage,
)
from assistant.reports import DaemonStatus, MemorySplit
from tui.figures import bar, rate, seconds, share, short, size, when
from tui.lines import activity, figures, progress
from tui.state import View, enter, opened, reduce, sending, with_status

MIB = 1024**2


def usage(**changes: Any) -> Usage:
    record: dict[str, Any] = {
        "prompt_tokens": 18_400,
        "cached_tokens": 17_376,
        "computed_tokens": 1_024,
        "completion_tokens": 212,
        "resident_tokens": 4_096,
        "stored_tokens": 18_612,
        "episode": None,
        "recalled_tokens": 0,
        "ttft_s": 0.41,
        "decode_tok_s": 23.4,
        "peak_bytes": 612 * MIB,
        "budget_bytes": 900 * MIB,
        "mode": "bounded",
    }
    return Usage(**(record | changes))


def done(**changes: Any) -> Done:
    return Done(conversation="c", reply_id=2, text="ok", finish="stop", model="m", usage=usage(**changes))


def after(events: Sequence[tuple[float, Event]], view: View | None = None) -> View:
    view = sending(view or View(phase="ready"), 0.0)
    for now, event in events:
        view = reduce(view, event, now)
    return view


def drawn(view: View, width: int) -> str:
    return "".join(text for text, _ in figures(view, width))


def test_nothing_is_known_at_first() -> None:
    assert drawn(View(), 100) == "- · budget - · tokens - · TTFT - · - tok/s"


def test_the_phases_of_a_reply() -> None:
    events: list[Event] = [
        Accepted(conversation="c", turn_id=1, reply_id=2),
        Queued(position=2),
        Loading(model="m", done_bytes=34, total_bytes=100),
        Prefill(done=1_024, total=18_400, tok_s=210.0),
        Piece(text="a"),
        done(),
    ]
    views = [after([(1.0, event) for event in events[:count]]) for count in range(len(events) + 1)]
    assert [view.phase for view in views] == ["sending", "accepted", "queued", "loading", "reading", "writing", "ready"]
    assert [view.busy for view in views] == [True] * 6 + [False]


def test_words_for_what_takes_long() -> None:
    queued = after([(0.0, Queued(position=1))])
    assert activity(queued, 1.0) == "waiting, 1 request ahead"
    assert activity(queued, 5.0) == "waiting, 1 request ahead · 5 s"
    loading = after([(1.0, Loading(model="m", done_bytes=0, total_bytes=100 * MIB))])
    loading = reduce(loading, Loading(model="m", done_bytes=34 * MIB, total_bytes=100 * MIB), 2.0)
    assert activity(loading, 5.0) == "loading m 34 % · 34 MiB of 100 MiB, 8 s left"
    reading = after([(0.0, Prefill(done=1_024, total=18_400, tok_s=210.0))])
    assert activity(reading, 3.0) == "reading 1,024 of 18,400 tokens, 210 tok/s, 83 s left"
    assert activity(reading, 0.1) == "reading 1,024 of 18,400 tokens, 210 tok/s"
    assert progress(reading) == pytest.approx(1_024 / 18_400)
    assert progress(after([(0.0, Piece(text="a"))])) is None


def test_speed_is_counted_until_the_record_arrives() -> None:
    pieces: list[tuple[float, Event]] = [(0.5 * number, Piece(text="x")) for number in range(11)]
    view = after(pieces)
    assert (view.tok_s, view.counted) == (2.0, True)
    assert "≈ 2.0 tok/s" in drawn(view, 100)
    assert "≈" not in drawn(after([*pieces, (6.0, done())]), 100)
    assert after([(0.0, Piece(text="x"))]).tok_s is None


@pytest.mark.parametrize(
    "event", [Switched(episode=3), Switched(episode=None), Evicted(times=2, resident_tokens=9, stored_tokens=30)]
)
def test_what_no_line_shows_changes_nothing(event: Event) -> None:
    before = after([(0.0, Prefill(done=5, total=10, tok_s=2.0))])
    assert reduce(before, event, 1.0) == before


def test_the_record_is_what_is_shown_at_the_end() -> None:
    view = after([(1.0, Piece(text="a")), (2.0, done())])
    assert drawn(view, 120) == (
        "m · [█████░░░] 612 MiB / 900 MiB · 4,096/18,612 tokens resident · TTFT 0.41 s · 23.4 tok/s"
    )
    assert drawn(after([(2.0, done(decode_tok_s=None))]), 120).endswith("- tok/s")


def test_a_new_message_forgets_the_speed_of_the_last() -> None:
    view = after([], after([(2.0, done())]))
    assert (view.ttft_s, view.tok_s, view.resident) == (None, None, 4_096)


def test_stopping_stays_on_the_screen_until_the_end() -> None:
    view = enter(after([(0.0, Piece(text="a"))]), "stopping", 1.0)
    assert reduce(view, Piece(text="b"), 1.1).phase == "stopping"
    assert reduce(view, Prefill(done=1, total=2, tok_s=0.0), 1.1).phase == "stopping"
    assert reduce(view, done(), 1.2).phase == "ready"
    assert reduce(view, Failed(message="no"), 1.2).phase == "ready"


def test_the_clock_of_a_phase_starts_once() -> None:
    view = after([(1.0, Prefill(done=0, total=9, tok_s=0.0)), (4.0, Prefill(done=5, total=9, tok_s=2.0))])
    assert (view.since, view.seconds_left(5.0)) == (1.0, 2.0)


def status(memory: MemorySplit, model: str | None = "m") -> DaemonStatus:
    return DaemonStatus(
        version="1",
        protocol=1,
        pid=1,
        started="",
        uptime_s=1.0,
        socket="s",
        worker_pid=2,
        worker_state="busy",
        model=model,
        queue=0,
        memory=memory,
    )


def test_memory_of_the_daemon() -> None:
    allocated = MemorySplit(budget=100, weights=10, kv=20, staging=3, activations=4, resident_tokens=7, stored_tokens=8)
    view = with_status(View(phase="ready"), status(allocated))
    assert (view.used_bytes, view.budget_bytes, view.model, view.stored) == (37, 100, "m", None)
    busy = with_status(View(phase="writing"), status(allocated.model_copy(update={"peak": 60})))
    assert (busy.used_bytes, busy.resident, busy.stored) == (60, 7, 8)
    ahead = with_status(View(phase="writing"), status(allocated.model_copy(update={"resident_tokens": 9})))
    assert (ahead.resident, ahead.stored) == (9, 9), "of what is stored, no more can be resident"
    assert with_status(View(model="m"), status(MemorySplit(), model=None)) == View(model="m")


def test_an_opened_conversation_speaks_for_itself() -> None:
    turns = [
        Turn(id=1, role="user", text="a", state="done", created=""),
        Turn(id=2, role="assistant", text="b", state="done", created="", usage=usage()),
        Turn(id=3, role="user", text="c", state="done", created=""),
    ]
    assert (opened(View(), turns).resident, opened(View(), turns).stored) == (None, 18_612)
    assert opened(opened(View(), turns), turns[:1]).stored is None


@pytest.mark.parametrize("width", range(20, 121, 5))
def test_the_figures_fit(width: int) -> None:
    view = replace(after([(2.0, done())]), model="smollm2-135m", counted=True)
    text = drawn(view, width)
    assert len(text) <= max(width, 14)
    assert text.startswith("smollm2-135m")
    assert "tok/s" in text or width < 40


def test_the_bar_warns_near_the_budget() -> None:
    near = replace(View(), used_bytes=95, budget_bytes=100)
    assert ("████████", "$warning") in figures(near, 120)


def test_figures_as_people_read_them() -> None:
    assert [size(number) for number in (None, 12, 2048, 612 * MIB, 6 * 1024 * MIB)] == [
        "-",
        "12 B",
        "2.0 KiB",
        "612 MiB",
        "6.0 GiB",
    ]
    assert [seconds(number) for number in (None, 0.412, 83.2, 250, 7500)] == [
        "-",
        "0.41 s",
        "83 s",
        "4 min 10 s",
        "2 h 5 min",
    ]
    assert [short(number) for number in (None, 999, 4_096, 131_072, 2_500_000)] == ["-", "999", "4.1k", "131k", "2.5M"]
    assert [rate(number) for number in (None, 23.44, 2100.0)] == ["-", "23.4", "2,100"]
    assert (share(5, 0), share(9, 3), bar(0.5, 8), bar(2.0, 2)) == (0.0, 1.0, ("████", "░░░░"), ("██", ""))


def test_dates() -> None:
    now = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
    stamps = ["2026-11-21T14:02:00+00:00", "2026-11-20T14:02:00Z", "2025-11-20T14:02:00+00:00", "not a date"]
    assert [when(stamp, now) for stamp in stamps] == ["14:02", "20 Nov", "20 Nov 2025", "not a date"]


def test_every_order_of_events_is_drawn() -> None:
    """Whatever a daemon sends in whatever order, there is a line for it."""
    events: list[Event] = [
        Queued(position=0),
        Loading(model="m", done_bytes=5, total_bytes=0),
        Prefill(done=9, total=5, tok_s=0.0),
        Piece(text=""),
        done(ttft_s=0.0),
        Failed(message="no"),
    ]
    for order in itertools.permutations(events, 3):
        view = after([(float(now), event) for now, event in enumerate(order)])
        assert activity(view, 9.0)
        assert drawn(view, 80)
