"""One invocation of `assistant agent`, from the flags to the result: it always ends in one, whatever happens."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from assistant import __version__
from assistant.agent.approval import Approver, Denied, Taint, screen
from assistant.agent.builtin import DEFAULT
from assistant.agent.definition import Tool
from assistant.agent.events import Ending, Reason, Start, ToolSaid
from assistant.agent.execution import unavailable
from assistant.agent.limits import Limits
from assistant.agent.loop import Loop, Stopped, Terms
from assistant.agent.making import Calls, Rules, StoredBook
from assistant.agent.mcp import servers
from assistant.agent.policy import Policy
from assistant.agent.sandbox import Sandbox
from assistant.agent.toolbox import Toolbox
from assistant.client import Client
from assistant.errors import AssistantError, Exit, UsageError
from assistant.places import Places
from assistant.protocol import Program, ProgramChange, ProgramRequest, ProgramState

Tell = Callable[[BaseModel], None]

_REASONS: dict[int, Reason] = {
    Exit.FAILED: "failed",
    Exit.USAGE: "usage",
    Exit.LIMIT: "step_limit",
    Exit.DENIED: "denied",
    Exit.BUDGET: "budget",
    Exit.MODEL: "model",
    Exit.DAEMON: "daemon",
    Exit.TIMEOUT: "timeout",
    Exit.SIGINT: "interrupted",
    Exit.SIGTERM: "terminated",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the flags ask for. `resume` and `fork` name a run; then `task` is not given."""

    task: str | None
    terms: Terms
    places: Places
    policy: Policy
    tools: Path | None = None
    mcp: Path | None = None
    builtin: tuple[str, ...] | None = None
    resume: str | None = None
    fork: str | None = None
    name: str | None = None
    system: str | None = None
    model: str = ""
    source: str = ""
    approved: frozenset[str] = frozenset()
    approver: Approver | None = None
    sandbox: Sandbox | None = None
    limits: Limits = field(default_factory=Limits)
    timeout_s: float | None = None

    @property
    def old(self) -> str | None:
        """The run to go on with."""
        return self.resume or self.fork


async def run(client: Client, wanted: Wanted, tell: Tell) -> Ending:
    """Run or resume a program; the result, which was told as the last event."""
    attempt = Attempt(client, wanted, tell)
    ending = await attempt.ended()
    tell(ending)
    return ending


def failed(error: AssistantError) -> Ending:
    """The result of a run that did not come to its beginning."""
    return Ending(run=None, ok=False, exit_code=error.exit_code, reason=_reason(error), text=str(error))


class Attempt:
    """The state of one invocation, so that its end can say how far it came."""

    def __init__(self, client: Client, wanted: Wanted, tell: Tell) -> None:
        self._client = client
        self._wanted = wanted
        self._tell = tell
        self._began = time.monotonic()
        self._program: Program | None = None
        self._loop: Loop | None = None
        self._signal: signal.Signals | None = None

    async def ended(self) -> Ending:
        """Go on to the end, and store how it was."""
        with self._signals():
            try:
                async with asyncio.timeout(self._wanted.timeout_s):
                    text = await self._go()
                ending = self._ending(text, Exit.OK, "done")
            except TimeoutError:
                sentence = f"The run took longer than {self._wanted.timeout_s:g} s (see --timeout); it can be resumed."
                ending = self._ending(sentence, Exit.TIMEOUT, "timeout")
            except asyncio.CancelledError:
                ending = self._interrupted()
            except AssistantError as error:
                ending = self._ending(str(error), error.exit_code, _reason(error))
            except Exception as error:  # a fault of ours: the stream still ends in a result
                sentence = f"The run failed ({type(error).__name__}: {error}); it can be resumed. Please report this."
                ending = self._ending(sentence, Exit.FAILED, "failed")
            with suppress(AssistantError):
                await self._store(ending)
        return ending

    async def _go(self) -> str:
        wanted = self._wanted
        self._program = old = await self._resumed()
        about = old.about if old else {}
        async with servers(mcp_of(wanted, about)) as more:
            toolbox = toolbox_of(wanted, about, more)
            program = self._program = old or await self._begun(toolbox)
            _check_unchanged(program, toolbox, wanted.approved)
            self._tell(start(wanted, program, toolbox))
            self._loop = await self._prepared(program, toolbox)
            return await self._loop.run()

    async def _prepared(self, program: Program, toolbox: Toolbox) -> Loop:
        wanted = self._wanted
        calls = Calls(
            client=self._client,
            program=program,
            toolbox=toolbox,
            book=StoredBook(self._client, program.id, await self._client.approvals()),
            rules=Rules(wanted.policy, wanted.approver, wanted.approved),
            sandbox=wanted.sandbox,
            places=wanted.places,
            limits=wanted.limits,
            tell=self._tell,
            taint=Taint.from_json(program.about["taint"]) if "taint" in program.about else Taint(),
        )
        return Loop(self._client, program, calls, wanted.terms, self._tell)

    async def _resumed(self) -> Program | None:
        """The program that goes on, or begins as another did; None where a new one is to begin."""
        wanted = self._wanted
        if wanted.fork is not None:
            return await self._client.resume_program((await self._client.fork_program(wanted.fork)).id)
        return None if wanted.resume is None else await self._client.resume_program(wanted.resume)

    async def _begun(self, toolbox: Toolbox) -> Program:
        wanted = self._wanted
        assert wanted.task is not None
        request = ProgramRequest(
            task=wanted.task, tools=toolbox.specs, system=wanted.system, name=wanted.name, about=_about(wanted, toolbox)
        )
        return await self._client.begin_program(request)

    def _interrupted(self) -> Ending:
        code = Exit.SIGTERM if self._signal == signal.SIGTERM else Exit.SIGINT
        return self._ending("The run was interrupted; it can be resumed.", code, _REASONS[code])

    def _ending(self, text: str, code: int, reason: Reason) -> Ending:
        ok, loop = code == Exit.OK, self._loop
        ending = Ending(run=None, ok=ok, exit_code=code, reason=reason, text=text)
        ending.run = self._program.id if self._program else None
        ending.seconds = round(time.monotonic() - self._began, 4)
        if ok and self._wanted.terms.answer is not None:
            ending.answer = json.loads(text)
        if loop is not None:
            ending.steps, ending.calls, ending.usage = loop.steps, loop.calls.made, loop.total
        return ending

    async def _store(self, ending: Ending) -> None:
        if self._program is not None:
            change = ProgramChange(state=_state(ending), reason=ending.text[:1000] if not ending.ok else None)
            await self._client.change_program(self._program.id, change)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl+C and SIGTERM cancel what runs; its tools end with it."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt(number: signal.Signals) -> None:
            if self._signal is None:
                self._signal = number
                task.cancel()

        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, interrupt, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def start(wanted: Wanted, program: Program | None, toolbox: Toolbox) -> Start:
    """The first event; without a program it is the one of a dry run."""
    return Start(
        schema=1,
        version=__version__,
        run=program.id if program else "",
        conversation=program.conversation if program else "",
        model=wanted.terms.engine.model or wanted.model,
        source=wanted.source,
        tools=[_said(tool, wanted.sandbox) for tool in toolbox.tools],
        budget=wanted.terms.engine.budget,
        sandbox=wanted.sandbox.name if wanted.sandbox else None,
        seed=wanted.terms.sampling.seed,
        resumed=wanted.old is not None,
    )


def mcp_of(wanted: Wanted, about: Mapping[str, Any]) -> Path | None:
    """The file of MCP servers that the flags name, else the one that the run began with."""
    return wanted.mcp or (Path(about["mcp"]) if about.get("mcp") else None)


def toolbox_of(wanted: Wanted, about: Mapping[str, Any], more: Sequence[Tool] = ()) -> Toolbox:
    """The tools that the flags name, else those that the run began with, and `more`: those of MCP servers.

    Raises:
        UsageError: the file cannot be loaded, or a tool hides something from who reads its definition.
    """
    file = wanted.tools or (Path(about["file"]) if about.get("file") else None)
    builtin = wanted.builtin if wanted.builtin is not None else about.get("builtin")
    if builtin is None:
        builtin = () if file or more else DEFAULT
    toolbox = Toolbox.load(file, tuple(builtin), places=wanted.places, more=more)
    for tool in toolbox.tools:
        screen(tool)
    return toolbox


def _about(wanted: Wanted, toolbox: Toolbox) -> dict[str, Any]:
    """What a run needs to go on with the tools that it began with."""
    return {
        "file": str(wanted.tools.absolute()) if wanted.tools else None,
        "mcp": str(wanted.mcp.absolute()) if wanted.mcp else None,
        "builtin": [tool.name for tool in toolbox.tools if tool.origin == "built-in"],
        "digests": {tool.name: tool.digest for tool in toolbox.tools},
    }


def _check_unchanged(program: Program, toolbox: Toolbox, approved: frozenset[str]) -> None:
    """The model was told of the tools as they were: one that is another now needs to be approved."""
    now, then = {tool.name: tool.digest for tool in toolbox.tools}, program.about.get("digests", {})
    if missing := sorted(then.keys() - now.keys()):
        raise UsageError(f"The run {program.id} began with tools that are not here: {', '.join(missing)}.")
    if changed := sorted(name for name in then if then[name] != now[name] and name not in approved):
        flags = " ".join(f"--approve {name}" for name in changed)
        names = ", ".join(changed)
        raise UsageError(
            f"The definition of {names} changed since the run {program.id} began. Look at it, then resume with {flags}."
        )


def _said(tool: Tool, sandbox: Sandbox | None) -> ToolSaid:
    return ToolSaid(
        name=tool.name,
        description=tool.spec.description,
        origin=tool.origin,
        digest=tool.digest,
        traits=tool.traits.names,
        off=unavailable(tool, sandbox),
    )


def _reason(error: AssistantError) -> Reason:
    if isinstance(error, Stopped):
        return error.reason
    return "denied" if isinstance(error, Denied) else _REASONS.get(error.exit_code, "failed")


def _state(ending: Ending) -> ProgramState:
    if ending.ok:
        return "done"
    if ending.reason == "denied":
        return "denied"
    return "stopped" if ending.exit_code in (Exit.LIMIT, Exit.TIMEOUT, Exit.SIGINT, Exit.SIGTERM) else "failed"
