"""Agent runs as a client of the daemon sees them: every call is kept, none is made twice, whatever dies in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.errors import DaemonError, UsageError
from assistant.protocol import (
    ApprovalRow,
    CallChange,
    Event,
    Piece,
    Program,
    ProgramChange,
    ProgramRequest,
    StepRequest,
    ToolSpec,
)
from tests.assistant.talk import done_of, until, with_client
from tests.conftest import RunningDaemon

ADD = ToolSpec(name="add", description="Add two numbers.", parameters={"type": "object"})
DONE = CallChange(state="done", result="3")


async def begin(client: Client, *lines: str) -> Program:
    """A program whose replies are these lines."""
    return await client.begin_program(ProgramRequest(task="\n".join(["Do it.", *lines]), tools=[ADD]))


async def step(client: Client, program: Program, **fields: object) -> list[Event]:
    return [event async for event in client.step(program.id, StepRequest.model_validate(fields))]


async def end(client: Client, program: Program, result: str) -> None:
    """Run every open call of a program, with this result."""
    for call in (await client.program(program.id)).calls:
        await client.change_call(program.id, call.id, CallChange(state="running"))
        await client.change_call(program.id, call.id, CallChange(state="done", result=result))


async def roles(client: Client, program: Program) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in await client.turns(program.conversation)]


def test_calls_are_made_between_the_steps(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1, "b": 2} & add {"a": 3, "b": 4}', "The sums are 3 and 7.")
        done = done_of(await step(client, program))
        assert done.written is not None
        assert [call.arguments for call in done.written.calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
        asked = await client.program(program.id)
        assert [(call.tool, call.state, call.result) for call in asked.calls] == [("add", "asked", None)] * 2
        for call, result in zip(asked.calls, ("3", "7"), strict=True):
            await client.change_call(program.id, call.id, CallChange(state="running"))
            ended = await client.change_call(program.id, call.id, CallChange(state="done", result=result))
            assert ended.seconds is not None
            assert 0 <= ended.seconds < 20
        assert done_of(await step(client, program)).text == "The sums are 3 and 7."
        assert [one for one in await roles(client, program) if one[0] == "tool"] == [("tool", "3"), ("tool", "7")]
        told = await client.program(program.id)
        assert (told.steps, told.calls) == (2, [])

    with_client(scene)


def test_a_step_waits_for_every_call(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1}', "Fine.")
        await step(client, program)
        with pytest.raises(UsageError, match=r"waits for add"):
            await step(client, program)
        await end(client, program, "3")
        assert done_of(await step(client, program)).text == "Fine."
        with pytest.raises(UsageError, match=r"has answered already"):
            await step(client, program)

    with_client(scene)


def test_a_call_that_has_ended_stays_as_it_is(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1}')
        await step(client, program)
        await end(client, program, "3")
        call = (await client.program(program.id)).calls[0].id
        again = await client.change_call(program.id, call, CallChange(state="done", result="4"))
        assert again.result == "3"
        with pytest.raises(UsageError, match="ends with a result"):
            await client.change_call(program.id, call, CallChange(state="failed"))

    with_client(scene)


def test_what_a_model_wrote_wrong_is_told_to_it(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, "half add", "I see.")
        done = done_of(await step(client, program))
        assert done.written is not None
        problem = done.written.problems[0]
        assert "in the middle" in problem
        assert done_of(await step(client, program, text=problem)).text == "I see."
        assert ("tool", problem) in await roles(client, program)

    with_client(scene)


@pytest.mark.parametrize("killed", ["daemon", "worker"])
def test_a_reply_that_was_broken_off_is_written_again(
    start_daemon: Callable[..., RunningDaemon], tmp_path: Path, killed: str
) -> None:
    daemon, gate = start_daemon(), tmp_path / "gate"

    async def breaks(client: Client) -> Program:
        program = await begin(client, 'call add {"a": 1}', f"slow {gate}", "Finished.")
        await step(client, program)
        await end(client, program, "3")
        events = client.step(program.id, StepRequest())
        await until(events, Piece)
        worker = (await client.status()).worker_pid
        assert worker is not None
        os.kill(daemon.pid if killed == "daemon" else worker, signal.SIGKILL)
        with suppress(DaemonError):
            async for _ in events:
                pass
        return program

    program = with_client(breaks)
    gate.touch()
    if killed == "daemon":
        start_daemon()

    async def goes_on(client: Client) -> None:
        found = await client.resume_program("last")
        assert found.id == program.id
        assert found.calls == [], "what it called has been answered"
        assert done_of(await step(client, program)).text == "Waiting for the gate. The gate is open."
        assert [one for one in await roles(client, program) if one[0] == "tool"] == [("tool", "3")]

    with_client(goes_on)


def test_a_call_that_ran_when_everything_died_is_not_repeated(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon()

    async def dies(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1} & add {"a": 2} & add {"a": 3}', "I looked.")
        await step(client, program)
        first, second, _ = (await client.program(program.id)).calls
        await client.change_call(program.id, first.id, CallChange(state="running"))
        await client.change_call(program.id, first.id, DONE)
        await client.change_call(program.id, second.id, CallChange(state="running"))

    with_client(dies)
    daemon.signal(signal.SIGKILL)
    start_daemon()

    async def goes_on(client: Client) -> None:
        found = await client.resume_program("last")
        assert [call.state for call in found.calls] == ["done", "failed", "asked"]
        assert "not known" in (found.calls[1].result or "")

    with_client(goes_on)


def test_a_fork_goes_its_own_way(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1}', "Fine.")
        await step(client, program)
        fork = await client.fork_program(program.id)
        assert (fork.task, [call.state for call in fork.calls]) == (program.task, ["asked"])
        await end(client, program, "3")
        await end(client, fork, "4")
        assert done_of(await step(client, fork)).text == "Fine."
        assert ("tool", "4") in await roles(client, fork)
        assert [call.result for call in (await client.program(program.id)).calls] == ["3"]

    with_client(scene)


def test_the_list_says_how_programs_ended(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        first, second = await begin(client), await begin(client)
        about = {"taint": ["private"]}
        await client.change_program(
            first.id, ProgramChange(state="denied", reason="shell is not allowed.", about=about)
        )
        told = {one.id: one for one in await client.programs()}
        assert (told[first.id].state, told[first.id].reason) == ("denied", "shell is not allowed.")
        assert (told[first.id].about, told[second.id].state) == (about, "running")
        assert not [one for one in await client.conversations() if one.name == first.conversation]

    with_client(scene)


def test_programs_that_are_not_there(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        with pytest.raises(UsageError, match="no program yet"):
            await client.program("last")
        with pytest.raises(UsageError, match="no program 'abc'"):
            await step(client, (await begin(client)).model_copy(update={"id": "abc"}))
        with pytest.raises(UsageError, match="no call 7"):
            await client.change_call((await begin(client)).id, 7, DONE)
        mine, other = await begin(client, 'call add {"a": 1}'), await begin(client)
        await step(client, mine)
        call = (await client.program(mine.id)).calls[0].id
        with pytest.raises(UsageError, match=f"no call {call} in the program"):
            await client.change_call(other.id, call, DONE)

    with_client(scene)


def test_a_program_goes_with_its_conversation(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client, 'call add {"a": 1}')
        await step(client, program)
        await client.purge(program.conversation)
        assert await client.programs() == []

    with_client(scene)


def test_decisions_are_kept(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        program = await begin(client)
        await client.note_approval(ApprovalRow(tool="shell", record={"decision": "always"}, program=program.id))
        kept = (await client.approvals())[0]
        assert (kept.tool, kept.record, kept.program) == ("shell", {"decision": "always"}, program.id)
        assert kept.created is not None

    with_client(scene)
