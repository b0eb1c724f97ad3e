"""Clients that go away in mid-stream: the model stops at once, and what is stored is what was read and written.

TEST_DISCONNECTS=10000 runs as many through the daemon as one wants to wait for (default: 200).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.orders import KvSpec, ModelSpec, Run, WorkerTurn
from assistant.protocol import Accepted, AskRequest, Piece, Sampling, Turn, Usage
from assistant.worker import engine as engines
from tests.assistant.talk import ask, done_of, until
from tests.worker.tiny import make_model_folder
from tests.worker.tiny_home import BUDGET, add_tiny, end, real_daemon

DISCONNECTS = int(os.environ.get("TEST_DISCONNECTS", "200"))
SEED = int(os.environ.get("TEST_SEED", "1"))
EACH = 10
"""Disconnects of one conversation: it stays inside the window of the tiny model."""
MOST_PIECES = 30
SECONDS_EACH = 3.0
LONG = Sampling(temperature=0.0, max_tokens=1000)
SHORT = {"temperature": 0.0, "max_tokens": 8}


def test_the_token_that_is_being_computed_is_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancel comes while the model computes, as from another thread: nothing is computed after that token."""
    engine, chooser, taken = engines.Engine(), random.Random(7), 0
    sample = engines.Sampler.next

    def cancelled(sampler: engines.Sampler, logits: object) -> int:
        nonlocal taken
        taken += 1
        if taken == at:
            engine.cancelled.set()
        return sample(sampler, logits)  # type: ignore[arg-type]

    monkeypatch.setattr(engines.Sampler, "next", cancelled)
    spec = ModelSpec(
        id="tiny",
        path=str(make_model_folder(tmp_path / "model")),
        budget=BUDGET,
        kv=KvSpec(folder=str(tmp_path / "kv"), codec="lossless", disk=2**30, reserve=0),
    )
    try:
        for number in range(200):
            at, taken = chooser.randint(1, 12), 0
            engine.cancelled.clear()
            turns = [WorkerTurn(id=1, role="user", text=f"Tell me about river {number}.")]
            run = Run(id=str(number), spec=spec, conversation=f"c{number}", turns=turns, reply_id=2, sampling=LONG)
            done = engine.run(run, lambda _: None)
            assert done.finish == "cancelled"
            assert done.usage.completion_tokens == taken == at
            assert done.usage.stored_tokens == done.usage.prompt_tokens + at
    finally:
        engine.close()


@pytest.fixture
def tiny_home(home: Path) -> Path:
    add_tiny(home)
    return home


async def leave_early(client: Client, name: str, chooser: random.Random) -> tuple[int, int]:
    """Ask, go away after some pieces; (id of the reply, characters that were seen)."""
    events = client.ask(name, AskRequest(text="Tell me about rivers.", sampling=LONG))
    reply, seen = (await until(events, Accepted)).reply_id, 0
    for _ in range(chooser.randint(1, MOST_PIECES)):
        seen += len((await until(events, Piece)).text)
    await events.aclose()
    assert reply is not None
    return reply, seen


async def go_on(client: Client, name: str, replaces: int | None = None) -> tuple[int, str, Usage]:
    """One more question, the same for everybody."""
    fields = {} if replaces is None else {"replaces": replaces}
    events = await ask(client, "And lakes?", name, sampling=SHORT, **fields)
    accepted, done = events[0], done_of(events)
    assert isinstance(accepted, Accepted)
    return accepted.turn_id, done.text, done.usage


@pytest.mark.timeout(60 + SECONDS_EACH * DISCONNECTS)
def test_disconnects_leave_every_conversation_as_a_cold_reading_finds_it(tiny_home: Path) -> None:
    chooser = random.Random(SEED)
    names = [f"talk {number}" for number in range(-(-DISCONNECTS // EACH))]
    daemon = real_daemon()
    try:
        warm, late = asyncio.run(_disconnected(names, chooser))
    finally:
        end(daemon)
    print(
        f"{DISCONNECTS} disconnects; tokens written that the client did not see: "
        f"median {statistics.median(late):.0f}, most {max(late)}"
    )
    assert statistics.median(late) <= 16
    shutil.rmtree(tiny_home / "state" / "kv")
    daemon = real_daemon()
    try:
        asyncio.run(_compared(names, warm))
    finally:
        end(daemon)


async def _disconnected(
    names: list[str], chooser: random.Random
) -> tuple[dict[str, tuple[int, str, Usage]], list[int]]:
    """Leave early again and again, then ask once more; what came, and how much was written after each client left."""
    late = []
    async with await Client.connect() as client:
        warm = {}
        for name in names:
            seen = dict([await leave_early(client, name, chooser) for _ in range(min(EACH, DISCONNECTS))])
            warm[name] = await go_on(client, name)
            turns = await client.turns(name)
            late += [_unseen(turn, seen[turn.id]) for turn in turns if turn.id in seen]
            stored = [turn.usage.stored_tokens for turn in turns if turn.id in seen and turn.usage]
            assert warm[name][2].cached_tokens == stored[-1], "nothing was lost, and nothing is read again"
            assert warm[name][2].recomputed_tokens == 0
    return warm, late


def _unseen(turn: Turn, seen: int) -> int:
    assert turn.state == "interrupted"
    assert turn.usage is not None
    assert 0 < turn.usage.completion_tokens < LONG.max_tokens
    assert len(turn.text) >= seen
    return len(turn.text) - seen


async def _compared(names: list[str], warm: dict[str, tuple[int, str, Usage]]) -> None:
    async with await Client.connect() as client:
        for name in names:
            question, text, usage = warm[name]
            _, cold, read = await go_on(client, name, replaces=question)
            assert (cold, read.prompt_tokens) == (text, usage.prompt_tokens), name
            assert read.cached_tokens == 0
