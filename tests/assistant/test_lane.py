"""Who goes first in the lane: a chat before agents, a program that goes on before one that begins, and all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

from assistant.client import Client
from assistant.protocol import (
    AskRequest,
    Done,
    Event,
    Piece,
    Program,
    ProgramChange,
    ProgramRequest,
    Queued,
    StepRequest,
    ToolSpec,
)
from tests.assistant.talk import ask, done_of, until, with_client
from tests.conftest import RunningDaemon

ADD = ToolSpec(name="add", description="Add two numbers.", parameters={"type": "object"})


async def begin(client: Client, *lines: str) -> Program:
    return await client.begin_program(ProgramRequest(task="\n".join(["Do it.", *lines]), tools=[ADD]))


class Line:
    """Requests that are on their way; `ended` are their names in the order in which they were served."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.positions: dict[str, list[int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, name: str, events: AsyncIterator[Event]) -> None:
        """Wait until it stands in the line."""
        standing = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._follow(name, events, standing)))
        await standing.wait()

    async def _follow(self, name: str, events: AsyncIterator[Event], standing: asyncio.Event) -> None:
        async for event in events:
            if isinstance(event, Queued):
                self.positions.setdefault(name, []).append(event.position)
                standing.set()
            if isinstance(event, Done):
                self.ended.append(name)

    async def all_ended(self) -> None:
        await asyncio.gather(*self._tasks)


def test_classes_and_programs_go_before_the_time_of_asking(daemon: RunningDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        older = await begin(client, "First.", "Second.")
        younger = await begin(client, "First.", "Second.")
        for program in (older, younger):
            async for _ in client.step(program.id, StepRequest()):
                pass
        busy = client.ask("busy", AskRequest(text=f"slow {gate}"))
        await until(busy, Piece)
        line = Line()
        batch, new = await begin(client, "Batch."), await begin(client, "New.")
        await line.join("batch", client.step(batch.id, StepRequest(urgency="batch")))
        await line.join("new", client.step(new.id, StepRequest()))
        await line.join("younger", client.step(younger.id, StepRequest(text="Go on.")))
        await line.join("older", client.step(older.id, StepRequest(text="Go on.")))
        await line.join("chat", client.ask("chat", AskRequest(text="hello")))
        gate.touch()
        async for _ in busy:
            pass
        await line.all_ended()
        assert line.ended == ["chat", "older", "younger", "new", "batch"]
        assert line.positions["batch"] == [1, 2, 3, 4, 5, 4, 3, 2, 1]
        assert line.positions["chat"] == [1]

    with_client(scene)


def test_a_program_that_was_admitted_goes_on_however_full_the_lane_is(daemon: RunningDaemon, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scene(client: Client) -> None:
        program = await begin(client, "First.", "Second.")
        async for _ in client.step(program.id, StepRequest()):
            pass
        busy = client.ask("busy", AskRequest(text=f"slow {gate}"))
        await until(busy, Piece)
        line = Line()
        for number in range(8):
            await line.join(f"chat {number}", client.ask(f"chat {number}", AskRequest(text="hello")))
        await line.join("program", client.step(program.id, StepRequest(text="Go on.")))
        gate.touch()
        async for _ in busy:
            pass
        await line.all_ended()
        assert line.ended[-1] == "program"

    with_client(scene)


def test_what_waits_for_a_tool_is_pinned(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1}')
        async for _ in client.step(program.id, StepRequest()):
            pass
        held = (await client.memory()).kv.sets
        assert [(one.conversation, one.pinned_by) for one in held] == [(program.conversation, "add")]
        assert held[0].pinned_s is not None
        assert held[0].pinned_s > 0

    with_client(scene)


def test_the_worker_is_told_whom_to_keep(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        first, second = await begin(client, 'call add {"a": 1}'), await begin(client, 'call add {"a": 1}')
        for program in (second, first):
            async for _ in client.step(program.id, StepRequest()):
                pass
        ids = [(await client.conversation(program.conversation)).id for program in (first, second)]
        told = json.loads(done_of(await ask(client, "pins", name="chat")).text)
        assert told == ids, "the one that began first leaves last"
        await client.change_program(first.id, ProgramChange(state="done"))
        told = json.loads(done_of(await ask(client, "pins", name="chat")).text)
        assert told == ids[1:], "a program that has ended keeps nothing"

    with_client(scene)
