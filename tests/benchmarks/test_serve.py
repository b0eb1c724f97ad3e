"""The replay of recorded requests: the formats it reads, the texts it makes, and what it reports of a server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import statistics
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from assistant.client import Client
from assistant.errors import UsageError
from assistant.protocol import Turn
from benchmarks.serve.__main__ import connection
from benchmarks.serve.generate import generate, write
from benchmarks.serve.prompts import Prompts, shared_most
from benchmarks.serve.replay import Outcome, Replay
from benchmarks.serve.summary import draw, row
from benchmarks.serve.trace import COLUMNS, Request, bounded, faster, load
from tests.assistant.talk import with_client
from tests.conftest import RunningDaemon


def stored(folder: Path, text: str, name: str = "trace.jsonl") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    plain = stored(tmp_path, '{"t": 12.5, "in": 20, "out": 3}\n{"t": 10.0, "in": 30, "out": 4}\n', "a")
    lines = [
        {"timestamp": 10_000, "input_length": 30, "output_length": 4, "hash_ids": [0, 7]},
        {"timestamp": 12_500, "input_length": 20, "output_length": 3, "hash_ids": [0, 8]},
    ]
    blocks = stored(tmp_path, "\n".join(map(json.dumps, lines)), "b")
    table = stored(
        tmp_path,
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "10,s1,2.0,GPT-4,30,4,34,API log\n11,s2,0,GPT-4,99,0,99,API log\n12.5,,2.0,GPT-4,20,3,23,Conversation log\n",
        "c",
    )
    older = stored(
        tmp_path,
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n10,GPT-4,30,4,34,API log\n",
        "d",
    )
    assert load(plain) == [Request(0.0, 30, 4), Request(2.5, 20, 3)]
    assert load(blocks) == [Request(0.0, 30, 4, None, (0, 7)), Request(2.5, 20, 3, None, (0, 8))]
    assert load(table) == [Request(0.0, 30, 4, "s1"), Request(2.5, 20, 3)], "failed requests are left out"
    assert load(older) == [Request(0.0, 30, 4)]


@pytest.mark.parametrize(
    "line", ['{"t": 1}', '{"t": -1, "in": 2, "out": 3}', '{"t": 1, "in": "many", "out": 3}', "{oops", '{"t": NaN}']
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str) -> None:
    path = stored(tmp_path, '{"t": 1, "in": 2, "out": 3}\n' + line)
    with pytest.raises(UsageError, match="Line 2 of the trace"):
        load(path)


def test_a_trace_that_is_not_there_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no requests"):
        load(stored(tmp_path, ""))


def test_a_generated_trace_is_of_the_schema_and_bursty(tmp_path: Path) -> None:
    rows = generate(sessions=2000, rate=0.5, seed=3)
    file = io.StringIO()
    write(file, rows)
    again = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert tuple(again[0]) == COLUMNS
    path = stored(tmp_path, file.getvalue(), "t.csv")
    requests = load(path)
    assert len(requests) == len(rows)
    firsts = dict[str | None, float]()
    for one in requests:
        firsts.setdefault(one.session, one.at)
    starts = sorted(firsts.values())
    gaps = [after - before for before, after in pairwise(starts)]
    assert statistics.fmean(gaps) == pytest.approx(2.0, rel=0.15)
    assert statistics.stdev(gaps) / statistics.fmean(gaps) == pytest.approx(2.0, rel=0.15)
    assert len(requests) / len(firsts) == pytest.approx(4.0, rel=0.1)
    assert generate(5, 1.0, 1) == generate(5, 1.0, 1) != generate(5, 1.0, 2)


def test_later_requests_of_a_session_begin_with_the_earlier_ones() -> None:
    prompts = Prompts(characters=4)
    first, second = Request(0, 50, 10, "s"), Request(1, 120, 10, "s")
    told = prompts.messages(first)
    prompts.answered(first, "hello", 60)
    more = prompts.messages(second)
    assert more[:2] == [*told, {"role": "assistant", "content": "hello"}]
    assert len(more[2]["content"]) == 4 * (120 - 60)
    prompts.failed(second)
    assert prompts.messages(second)[:2] == more[:2]


def test_prompts_share_what_their_blocks_share() -> None:
    prompts = Prompts(characters=2)
    requests = [Request(0, 1200, 1, None, (0, 1, 2)), Request(0, 1200, 1, None, (0, 1, 3)), Request(0, 700, 1)]
    one, two, other = (prompts.messages(request)[0]["content"] for request in requests)
    assert len(one) == len(two) == 2400
    assert one[: 2 * 1024] == two[: 2 * 1024]
    assert one != two
    assert other[:100] != one[:100]
    assert prompts.messages(requests[2])[0]["content"] != other, "without blocks nothing is shared"
    assert shared_most(requests) == pytest.approx(2 / 6)


def test_requests_are_bounded_and_sped_up() -> None:
    found = faster(bounded([Request(10.0, 5000, 900, None, tuple(range(10)))], 1000, 100), 5.0)
    assert found == [Request(2.0, 1000, 100, None, (0, 1))]


def test_the_summary_counts_what_was_not_answered(tmp_path: Path) -> None:
    good = [
        Outcome(Request(0, 10, 2), 200, "", 0.1 * at, 1.0, [0.01, 0.02], 10, 5, 2, 0.001 * at) for at in range(1, 101)
    ]
    bad = [Outcome(Request(0, 10, 2), 429, "full"), Outcome(Request(0, 10, 2), 500, "oops"), Outcome(Request(0, 1, 1))]
    bad[-1].why = "ConnectError"
    found = row([*good, *bad], patience_s=5.0)
    assert (found["requests"], found["answered"], found["refused"], found["errors"]) == (103, 100, 1, 2)
    assert found["cached_share"] == 0.5
    assert (found["ttft_p50"], found["ttft_p99"]) == (5.0, 9.9)
    assert found["over_model_p99"] == 0.099
    assert found["goodput_min"] == 60 * 50
    draw(good, "a replay", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert row(bad, 5.0)["ttft_p50"] is None


def test_a_replay_loses_nothing(daemon: RunningDaemon) -> None:
    """Eight sessions at once against a daemon: every turn is answered and kept, in order, and read once."""
    rows = generate(sessions=8, rate=50.0, seed=2)
    requests = faster([as_request(row) for row in rows], 1000.0)

    async def play() -> list[Outcome]:
        async with connection(None, None) as http:
            return await Replay(http, "fake", Prompts()).run(requests)

    outcomes = asyncio.run(play())
    assert [one.why for one in outcomes if not one.ok] == []
    found = row(outcomes, patience_s=60.0)
    assert found["answered"] == len(requests) > 20
    assert found["cached_share"] > 0.3
    assert found["over_model_p99"] is not None

    async def kept(client: Client) -> list[list[Turn]]:
        return [await client.all_turns(one.name) for one in await client.conversations(archived=True)]

    talks = with_client(kept)
    sizes = Counter(request.session for request in requests)
    assert sorted(len(turns) for turns in talks) == sorted(2 * count for count in sizes.values())
    for turns in talks:
        assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert {turn.state for turn in turns} == {"done"}


def test_what_a_server_refuses_is_counted(daemon: RunningDaemon) -> None:
    async def play() -> list[Outcome]:
        async with connection(None, None) as http:
            return await Replay(http, "no-such-model", Prompts()).run(
                [Request(0.0, 5, 5, "s"), Request(0.0, 5, 5, "s")]
            )

    outcomes = asyncio.run(play())
    assert [one.status for one in outcomes] == [404, 404]
    assert row(outcomes, 1.0)["errors"] == 2
    assert "no-such-model" in outcomes[0].why


def as_request(row: dict[str, Any]) -> Request:
    at, session, prompt, reply = (
        row[name] for name in ("Timestamp", "Session ID", "Request tokens", "Response tokens")
    )
    return Request(at, prompt, reply, session)
