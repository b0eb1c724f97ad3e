"""`assistant map`: topics over time with what is on the device, for people and scripts, also without a worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.text import Text

from assistant.commands.map import STRIP, as_record, stretches, strip
from assistant.protocol import Episodes, Segment, SegmentTurn
from tests.assistant.command import on_a_terminal, run, run_json
from tests.assistant.talk import end_the_worker, with_client
from tests.conftest import RunningDaemon

TOPICS = ["dogs", "dogs", "money", "dogs"]


def bring(home: Path, topics: list[str], name: str = "trip") -> None:
    """Import a conversation with a segment about each topic."""
    messages = [
        {"role": "user", "content": f"{topic} are what we talk about {at}"} for topic in topics for at in range(4)
    ]
    file = home / f"{name}.json"
    file.write_text(json.dumps(messages))
    run("import", str(file), "-c", name)


def segments(*episodes: int | None) -> list[Segment]:
    """Segments of four turns and 100 tokens."""
    found = list[Segment]()
    for at, episode in enumerate(episodes):
        turns = [
            SegmentTurn(
                turn=at * 4 + n,
                speaker="A",
                date=None,
                text="",
                first_token=at * 100 + n * 25,
                last_token=at * 100 + n * 25 + 25,
            )
            for n in range(4)
        ]
        found.append(Segment(segment=at, turns=turns, episode=episode, similarity=None))
    return found


def test_topics_and_where_they_lie(daemon: RunningDaemon, home: Path) -> None:
    bring(home, TOPICS)
    record = run_json("map", "-c", "trip")
    assert record["conversation"] == "trip"
    assert record["episodes"] == [
        {"episode": 1, "title": "dogs", "segments": 3},
        {"episode": 2, "title": "money", "segments": 1},
    ]
    assert [(one["episode"], one["segments"], one["dates"]) for one in record["stretches"]] == [
        (1, 2, ["8 May"]),
        (2, 1, ["8 May"]),
        (1, 1, ["8 May"]),
    ]
    turns = [(one["first_turn"], one["last_turn"]) for one in record["stretches"]]
    assert [last - first for first, last in turns] == [7, 3, 3]
    assert all(0 < one["resident"] < 1 for one in record["stretches"])
    assert 0.4 < record["resident"] < 0.6

    shown = run("map").stdout
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    lines = shown.splitlines()
    assert lines[0].startswith("trip: 2 episodes, 4 segments, 16 turns, ")
    assert lines[1].endswith("% on the device, the rest on disk")
    assert "over time  1121" in lines
    assert any(line.split() == ["1", "dogs", "3", "segments"] for line in lines)
    assert [line.split()[:2] for line in lines[-3:]] == [["8", "May"]] * 3


def test_sittings_and_where_each_exchange_lies(daemon: RunningDaemon, home: Path) -> None:
    bring(home, TOPICS)
    record = run_json("map", "-c", "trip")
    (sitting,) = record["sittings"]
    cells = sitting["cells"]
    assert [number for cell in cells for number in cell["turns"]] == list(
        range(cells[0]["turns"][0], cells[0]["turns"][0] + 16)
    )
    assert {cell["episode"] for cell in cells} == {1, 2}
    assert {cell["state"] for cell in cells} <= {"verbatim", "compressed", "on disk", "text only"}
    tokens = sum(cell["tokens"] for cell in cells)
    assert sum(record["states"].values()) == tokens > 0

    shown = run("map", "--sittings").stdout
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    marks = {"verbatim": "█", "compressed": "▒", "on disk": "░", "text only": "·"}
    assert lines[2] == f"{sitting['label']}  {''.join(marks[cell['state']] for cell in cells)}"
    assert [line.split(":")[0] for line in lines[-4:]] == [f"{mark} {state}" for state, mark in marks.items()]


def test_on_a_terminal_it_has_colour_and_fits(daemon: RunningDaemon, home: Path) -> None:
    bring(home, [f"topic{number}" * 6 for number in range(30)])
    shown = on_a_terminal("map")
    assert "\x1b[" in shown
    assert "10 earlier stretches" in shown
    assert all(len(Text.from_ansi(line)) <= 80 for line in shown.splitlines())


def test_without_a_worker_the_file_is_read(daemon: RunningDaemon, home: Path) -> None:
    bring(home, TOPICS)
    with_client(end_the_worker)
    record = run_json("map", "-c", "trip")
    assert len(record["stretches"]) == 3
    assert (record["resident"], record["stretches"][0]["resident"]) == (None, None)
    assert "not on the device now" in run("map").stdout
    for file in daemon.places.kv.glob("episodes.db*"):
        file.unlink()
    assert run_json("map")["stretches"] == []
    assert run("map").stdout == "trip: no turns were observed yet\n"
    (daemon.places.kv / "episodes.db").write_bytes(b"no database at all" * 500)
    assert "could not be read" in run("map", code=1).stderr


def test_a_conversation_must_be_there(daemon: RunningDaemon, home: Path) -> None:
    assert "no conversations yet" in run("map", code=2).stderr
    bring(home, TOPICS)
    assert "Did you mean 'trip'" in run("map", "-c", "trap", code=2).stderr


@pytest.mark.parametrize("count", [1, STRIP, STRIP + 1, 5000])
def test_the_strip_fits_and_keeps_the_order(count: int) -> None:
    episodes = [1 + 3 * at // count for at in range(count)]
    shown = "".join(text.plain for text in strip(episodes))
    assert len(shown) == min(count, STRIP)
    assert shown == "".join(sorted(shown))


def test_shares_are_of_the_tokens() -> None:
    residency = [1.0, 1.0, 0.0, 0.5]
    found = list(stretches(segments(1, 1, None), residency))
    assert [(one.episode, one.first_turn, one.last_turn) for one in found] == [(1, 0, 7), (None, 8, 11)]
    assert found[0].resident == pytest.approx((128 + 0.5 * 8) / 200)
    assert found[1].resident == pytest.approx((0.5 * 56) / 100, abs=1e-4)
    assert as_record(Episodes(segments=segments(1, 1, None), residency=residency))["resident"] == pytest.approx(
        (128 + 0.5 * 64) / 300, abs=1e-3
    )
