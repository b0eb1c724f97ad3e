"""Many sessions at once against the daemon with the tiny model: whatever comes, everything is answered and kept.

LOAD_TURNS=1000 replays as many turns as one wants to wait for (default: 96).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.protocol import Turn
from benchmarks.serve.__main__ import connection
from benchmarks.serve.prompts import Prompts
from benchmarks.serve.replay import Outcome, Replay
from benchmarks.serve.summary import row
from benchmarks.serve.trace import Request
from tests.assistant.talk import with_client
from tests.worker.tiny_home import add_tiny, end, real_daemon

TURNS = int(os.environ.get("LOAD_TURNS", "96"))
SESSIONS = 32
MESSAGE, REPLY = 6, 8
EVERY_S = 0.08
"""Seconds between two requests, whether or not those before were answered: sessions wait for one another."""


def requests() -> list[Request]:
    """Sessions in turns; each request has its message and everything before it."""
    return [
        Request(turn * EVERY_S, turn // SESSIONS * (MESSAGE + REPLY) + MESSAGE, REPLY, f"s{turn % SESSIONS}")
        for turn in range(TURNS)
    ]


@pytest.mark.timeout(120 + 2 * TURNS)
def test_nothing_is_refused_and_nothing_is_lost(home: Path) -> None:
    add_tiny(home)
    daemon = real_daemon(QUEUE=str(SESSIONS))
    try:
        outcomes = asyncio.run(_played())
        talks = with_client(_kept)
    finally:
        end(daemon)
    found = row(outcomes, patience_s=60.0)
    print(f"{TURNS} turns, {SESSIONS} sessions: {found}")
    assert [one.why for one in outcomes if not one.ok] == []
    assert found["over_model_p99"] is not None
    sizes = Counter(one.session for one in requests())
    assert sorted(len(turns) for turns in talks) == sorted(2 * count for count in sizes.values())
    for turns in talks:
        assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert {turn.state for turn in turns} == {"done"}
        read_again = [turn.usage.recomputed_tokens for turn in turns if turn.usage is not None]
        assert read_again == [0] * (len(turns) // 2), "what a session said is not read twice"


async def _played() -> list[Outcome]:
    async with connection(None, None) as http:
        return await Replay(http, "tiny", Prompts()).run(requests())


async def _kept(client: Client) -> list[list[Turn]]:
    return [await client.all_turns(one.name) for one in await client.conversations(archived=True)]
