"""What another budget would come to: asked of the daemon, with a worker and without, and refused with the sum."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.errors import BudgetError, UsageError
from assistant.protocol import AskRequest, Done, Piece
from assistant.reports import MemorySplit
from tests.assistant.command import run
from tests.assistant.talk import ask, done_of, until, with_client
from tests.conftest import RunningDaemon
from tests.worker.tiny import make_model_folder

MIB = 1024**2


def plan(budget: str) -> MemorySplit:
    return with_client(lambda client: client.plan(budget))


def test_the_loaded_model_says_what_a_budget_comes_to(daemon: RunningDaemon) -> None:
    run("ask", "hello")
    planned = plan("450MiB")
    assert (planned.budget, planned.capacity_tokens, planned.estimated) == (450 * MIB, 2048, False)
    assert 0 < planned.working_set_tokens < planned.capacity_tokens
    assert with_client(lambda client: client.memory()).memory.budget == 900 * MIB, "nothing was changed"


def test_beside_a_reply_that_is_being_written(daemon: RunningDaemon, home: Path) -> None:
    gate = home / "gate"

    async def scene(client: Client) -> tuple[MemorySplit, Done]:
        async with aclosing(client.ask("demo", AskRequest(text=f"slow {gate}"))) as events:
            await until(events, Piece)
            planned = await client.plan("300MiB")
            gate.touch()
            return planned, await until(events, Done)

    planned, done = with_client(scene)
    assert planned.budget == 300 * MIB
    assert done.finish == "stop"


def test_a_budget_that_cannot_be_met_is_refused_with_the_sum(daemon: RunningDaemon) -> None:
    run("ask", "hello")
    with pytest.raises(BudgetError, match="smallest budget that works is 200 MiB"):
        plan("100MiB")
    with pytest.raises(UsageError, match="is not a size"):
        plan("a lot")
    done_of(with_client(lambda client: ask(client, "still here?")))


def test_without_a_worker_it_is_an_estimate_from_the_shape(daemon: RunningDaemon, home: Path) -> None:
    shape = json.loads((make_model_folder(home / "tiny") / "config.json").read_text())
    (home / "fake" / "config.json").write_text(json.dumps(shape))
    planned = plan("100MiB")
    assert planned.estimated
    assert 0 < planned.weights < planned.budget == 100 * MIB
    assert 0 < planned.working_set_tokens < planned.capacity_tokens
    with pytest.raises(BudgetError, match=r"the smallest budget that works is .*an estimate"):
        plan("1MiB")
    with pytest.raises(UsageError, match="is not a size"):
        plan("a lot")
