"""A worker whose policy chooses from what is stored: questions begin with what their episode needs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from assistant.orders import Forget, KvSpec
from tests.conftest import wait_until
from tests.memory.talk import turns as talk
from tests.worker.process import WorkerProcess

TOPICS = ["dogs", "money"] * 6
DOGS, MONEY = "Where did my dog chase the ball?", "When is my mortgage payment to the bank due?"


def scored(kv: KvSpec) -> tuple[int, int]:
    """(patches, scores of rows) on disk."""
    db = sqlite3.connect(Path(kv.folder) / "scores.db")
    try:
        return tuple(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("patches", "scores"))  # type: ignore[return-value]
    except sqlite3.OperationalError:
        return 0, 0
    finally:
        db.close()


@pytest.mark.parametrize("policy", ["episodic", "patched_prompt"])
def test_a_question_begins_with_what_its_episode_needs(policy: str, folder: Path, kv: KvSpec) -> None:
    """The conversation is longer than what the model was trained for, so that it cannot all be resident."""
    with WorkerProcess(folder, kv=kv, policy=policy, budget="400MiB") as worker:
        read = worker.read([f"{turn.speaker}: {turn.text}" for turn in talk(TOPICS)])
        assert read.usage.resident_tokens < read.usage.stored_tokens
        assert [event.event for event in worker.events].count("evicted") >= 1
        patches = 2 if policy == "episodic" else 1
        wait_until(lambda: scored(kv)[0] == patches, "the patches are scored while nobody waits")
        first, again = worker.ask(DOGS, max_tokens=4), worker.ask(MONEY, max_tokens=4)
        switched = [str(event.episode) for event in worker.events if event.event == "switched"]
        assert switched == ([again.usage.episode] if first.usage.episode != again.usage.episode else [])
        assert first.usage.recalled_tokens > 0
        assert (again.usage.recalled_tokens > 0) == (first.usage.episode != again.usage.episode or policy != "episodic")
        for done in (first, again):
            assert done.usage.peak_bytes <= done.usage.budget_bytes
            assert done.usage.resident_tokens <= done.memory.capacity_tokens
            assert done.usage.mode == "bounded"
        turns = worker.turns
    with WorkerProcess(folder, kv=kv, policy=policy, budget="400MiB") as worker:
        worker.turns = turns
        assert worker.ask(DOGS, max_tokens=4).usage.recalled_tokens > 0
        wait_until(lambda: scored(kv)[1] > 0, "the scores are there")
        assert worker.aside(Forget(id="f", folder=kv.folder, conversation="c")).event == "forgotten"
        wait_until(lambda: scored(kv) == (0, 0), "nothing is left of them")
