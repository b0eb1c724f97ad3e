"""What the chat asks of the daemon beside conversations: earlier messages, models that fit, single parameters."""

from __future__ import annotations

import asyncio
import json

from assistant.client import Client
from assistant.protocol import AskRequest, Done, ImportRequest, NewTurn, Sampling
from assistant.reports import ModelStatus
from tests.conftest import RunningDaemon


async def write(client: Client, name: str, *texts: str) -> None:
    turns = [NewTurn(role="user", text=text) for text in texts]
    async for _ in client.import_turns(name, ImportRequest(turns=turns)):
        pass


def test_earlier_messages_come_once_newest_first_and_not_of_what_was_put_away(daemon: RunningDaemon) -> None:
    async def run() -> tuple[list[str], list[str]]:
        async with await Client.connect(start=False) as client:
            await write(client, "one", "alpha", "beta")
            await write(client, "two", "gamma", "alpha", "x" * 20_000)
            await write(client, "gone", "secret")
            await client.remove("gone")
            return await client.prompts(), await client.prompts(limit=1)

    assert asyncio.run(run()) == (["alpha", "gamma", "beta"], ["alpha"])


def test_models_say_what_fits_when_asked(daemon: RunningDaemon) -> None:
    async def run() -> tuple[list[ModelStatus], list[ModelStatus]]:
        async with await Client.connect(start=False) as client:
            return await client.models(), await client.models(fit=True)

    plain, fitting = asyncio.run(run())
    assert {one.verdict for one in plain} == {None}
    verdicts = {one.id: one.verdict for one in fitting}
    assert verdicts["fake"] is not None  # its configuration cannot be read: that is the verdict
    assert (verdicts["smollm2-135m"] or "").startswith("fits")


def test_a_parameter_that_is_not_said_is_as_in_the_settings(start_daemon: object, daemon: RunningDaemon) -> None:
    async def run() -> Sampling:
        async with await Client.connect(start=False) as client:
            request = AskRequest.model_validate({"text": "sampling", "sampling": {"top_k": 7}})
            events = [event async for event in client.ask("one", request)]
            assert isinstance(events[-1], Done)
            return Sampling.model_validate(json.loads(events[-1].text))

    assert asyncio.run(run()) == Sampling(top_k=7)
