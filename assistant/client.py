"""The client of the daemon: everything a front end can ask, over the Unix socket."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from assistant.connection import Connection, error_of, restart
from assistant.errors import AssistantError, Exit, UsageError
from assistant.protocol import (
    ApprovalRow,
    AskRequest,
    CallChange,
    CallRow,
    ChooseRequest,
    Conversation,
    ConversationChange,
    Episodes,
    Event,
    Failed,
    ForkRequest,
    Hit,
    ImportRequest,
    NewTurn,
    Program,
    ProgramChange,
    ProgramRequest,
    Removed,
    RestoreRequest,
    StepRequest,
    StoreRequest,
    Turn,
)
from assistant.reports import (
    CheckRequest,
    DaemonStatus,
    KvCheck,
    MemoryReport,
    MemorySplit,
    ModelStatus,
    PsReport,
    PullProgress,
    Unloaded,
)

__all__ = ["Client", "error_of", "pull", "restart"]

CHECK_S = 3600.0
END_S = 10.0
"""How long a download may take to stop."""
PAGE = 500
"""Most turns that come at once."""


class Client(Connection):
    """Everything that can be asked of the daemon."""

    async def status(self) -> DaemonStatus:
        """Who serves, with which model, and where its memory goes."""
        return await self._get("/api/status", DaemonStatus)

    async def ps(self) -> PsReport:
        """Which model is loaded, who is resident, and until when."""
        return await self._get("/api/ps", PsReport)

    async def prepare(self) -> None:
        """Have the worker started ahead of the next request; nothing is loaded."""
        await self._send("POST", "/api/prepare", json={})

    async def unload(self) -> Unloaded:
        """End the worker: its memory is free, what it held comes back from disk with the next request."""
        return Unloaded.model_validate_json((await self._send("POST", "/api/unload", json={})).content)

    async def memory(self) -> MemoryReport:
        """Where every byte lies, by tier and purpose."""
        return await self._get("/api/memory", MemoryReport)

    async def plan(self, budget: str) -> MemorySplit:
        """What a budget ("700MiB") would come to; nothing is loaded or allocated.

        Raises:
            BudgetError: it would not hold the model; the text shows the sum.
            UsageError: it is no size.
        """
        return await self._get("/api/plan", MemorySplit, budget=budget)

    async def check(self, *, repair: bool = False) -> KvCheck:
        """Verify every stored row; may take as long as reading all of them."""
        request = CheckRequest(repair=repair)
        answer = await self._send("POST", "/api/kv/check", json=request.model_dump(), timeout=CHECK_S)
        return KvCheck.model_validate(answer.json())

    async def models(self, *, fit: bool = False, budget: str | None = None) -> list[ModelStatus]:
        """The catalogue, and what of it is on this machine; `fit`: and whether it fits `budget`."""
        return await self._get("/api/models", list[ModelStatus], fit=fit, budget=budget)

    async def conversations(self, query: str = "", archived: bool = False, removed: bool = False) -> list[Conversation]:
        """Conversations whose name or title contains `query`: pinned ones first, then the one written to last.

        `archived`: archived ones too, at the end; `removed`: instead those that were put away.
        """
        which = {"query": query, "archived": archived, "removed": removed}
        return await self._get("/api/conversations", list[Conversation], **which)

    async def conversation(self, name: str) -> Conversation:
        """The conversation of exactly this name."""
        return await self._get(_path(name, "/about"), Conversation)

    async def turns(self, name: str, before: int | None = None, limit: int = 50, versions: bool = False) -> list[Turn]:
        """The newest turns (of those with an id below `before`), oldest first.

        Those of the path that is shown, or with `versions` all that there are.
        """
        return await self._get(_path(name, "/turns"), list[Turn], limit=limit, before=before, versions=versions)

    async def all_turns(self, name: str, versions: bool = False) -> list[Turn]:
        """Every turn, oldest first, however many there are."""
        return await every_turn(lambda before: self.turns(name, before, PAGE, versions))

    async def siblings(self, name: str, turn: int) -> list[Turn]:
        """The versions of a turn, itself included, oldest first."""
        return await self._get(_path(name, "/siblings"), list[Turn], turn=turn)

    async def choose(self, name: str, turn: int) -> None:
        """Make the path go through a turn, and on to what was last written after it."""
        await self._send("POST", _path(name, "/choose"), json=ChooseRequest(turn=turn).model_dump())

    async def fork(self, name: str, turn: int | None = None, new: str | None = None) -> Conversation:
        """Begin a conversation with the turns up to and including `turn` (None: with all of them)."""
        body = ForkRequest(turn=turn, name=_checked(new))
        answer = await self._send("POST", _path(name, "/fork"), json=body.model_dump())
        return Conversation.model_validate_json(answer.content)

    async def episodes(self, name: str) -> Episodes:
        """The topics of a conversation, and how its questions were routed."""
        return await self._get(_path(name, "/episodes"), Episodes)

    async def owner(self, turn: int) -> Conversation:
        """The conversation that a turn is in."""
        return await self._get(f"/api/turns/{turn}/conversation", Conversation)

    async def prompts(self, limit: int = 200) -> list[str]:
        """What the user wrote last, in all conversations that are not put away; the newest first."""
        return await self._get("/api/prompts", list[str], limit=limit)

    async def search(self, words: str, limit: int = 20, conversation: str | None = None) -> list[Hit]:
        """Turns that contain all words, of all conversations or one."""
        return await self._get("/api/search", list[Hit], words=words, limit=limit, conversation=conversation)

    def ask(self, name: str, request: AskRequest) -> AsyncGenerator[Event, None]:
        """Send a message; what happens, up to Done or Failed. Closing the iterator early stops the reply."""
        return self._stream(_path(name, "/ask"), request)

    def import_turns(self, name: str, request: ImportRequest) -> AsyncGenerator[Event, None]:
        """Store turns and have them read; what happens, up to Done or Failed."""
        return self._stream(_path(name, "/import"), request)

    async def store(self, name: str, turns: list[NewTurn]) -> Conversation:
        """Store turns without having them read: that comes with the next question."""
        content = StoreRequest(turns=turns).model_dump_json().encode()
        headers = {"Content-Type": "application/json"}
        answer = await self._send("POST", _path(name, "/turns"), content=content, headers=headers)
        return Conversation.model_validate_json(answer.content)

    async def stop(self, name: str) -> bool:
        """Cancel what runs or waits for a conversation; returns when it has ended: whether anything did."""
        answer = await self._send("POST", _path(name, "/stop"), json={})
        return bool(answer.json()["stopped"])

    async def rename(self, old: str, new: str) -> None:
        """Give a conversation another name."""
        await self.change(old, ConversationChange(name=_checked(new)))

    async def change(self, name: str, change: ConversationChange) -> Conversation:
        """Change what `change` says, all of it or nothing; the conversation afterwards."""
        answer = await self._send("PATCH", _path(name), json=change.model_dump(exclude_none=True))
        return Conversation.model_validate_json(answer.content)

    async def remove(self, name: str) -> None:
        """Put a conversation away: it is in no list and no search any more, and can be restored for 30 days."""
        await self._send("DELETE", _path(name))

    async def restore(self, name: str, new: str | None = None) -> Conversation:
        """Bring back the conversation that was put away last under this name."""
        body = RestoreRequest(name=_checked(new))
        answer = await self._send("POST", _path(name, "/restore"), json=body.model_dump())
        return Conversation.model_validate_json(answer.content)

    async def purge(self, name: str | None = None) -> list[str]:
        """Remove a conversation and everything in it for good, or (None) all that were put away; their names."""
        if name is None:
            answer = await self._send("POST", "/api/purge", json={})
        else:
            answer = await self._send("DELETE", _path(name), params={"for_good": True})
        return Removed.model_validate_json(answer.content).names

    # --- agent runs -------------------------------------------------------------------------------------------------

    async def begin_program(self, request: ProgramRequest) -> Program:
        """Commit a new agent run."""
        return await self._program("POST", "/api/programs", request)

    async def program(self, program: str) -> Program:
        """An agent run and the calls of its last reply; "last": the one that was written to last."""
        return await self._get(f"/api/programs/{quote(program, safe='')}", Program)

    async def programs(self) -> list[Program]:
        """Every agent run, the one written to last first."""
        return await self._get("/api/programs", list[Program])

    async def change_program(self, program: str, change: ProgramChange) -> Program:
        """Say how an agent run goes on or ended."""
        return await self._program("PATCH", f"/api/programs/{program}", change)

    async def resume_program(self, program: str) -> Program:
        """Make an agent run ready to go on: calls that ran when it died have failed, and are not made again."""
        return await self._program("POST", f"/api/programs/{quote(program, safe='')}/resume")

    async def fork_program(self, program: str) -> Program:
        """Begin an agent run with everything another one has done."""
        return await self._program("POST", f"/api/programs/{quote(program, safe='')}/fork")

    def step(self, program: str, request: StepRequest) -> AsyncGenerator[Event, None]:
        """The next reply of an agent run, as events; the last one is `Done` or `Failed`."""
        return self._stream(f"/api/programs/{program}/step", request)

    async def change_call(self, program: str, call: int, change: CallChange) -> CallRow:
        """A tool begins or has ended."""
        path = f"/api/programs/{program}/calls/{call}"
        return CallRow.model_validate_json((await self._send("POST", path, json=change.model_dump())).content)

    async def note_approval(self, row: ApprovalRow) -> None:
        """Store a decision on a call."""
        await self._send("POST", "/api/approvals", json=row.model_dump())

    async def approvals(self) -> list[ApprovalRow]:
        """Every decision on calls, the oldest first."""
        return await self._get("/api/approvals", list[ApprovalRow])

    async def _program(self, method: str, path: str, body: BaseModel | None = None) -> Program:
        content = {} if body is None else body.model_dump(exclude_unset=True)
        return Program.model_validate_json((await self._send(method, path, json=content)).content)

    async def shutdown(self) -> None:
        """Ask the daemon to drain and end."""
        await self._send("POST", "/api/shutdown", json={})


async def every_turn(page: Callable[[int | None], Awaitable[list[Turn]]]) -> list[Turn]:
    """Every turn, oldest first; `page`: the newest `PAGE` turns before a turn's id (None: of all)."""
    pages = [await page(None)]
    while len(pages[-1]) == PAGE:
        pages.append(await page(pages[-1][0].id))
    return [turn for one in reversed(pages) for turn in one]


async def pull(model_id: str) -> AsyncGenerator[PullProgress, None]:
    """Fetch a model with `assistant models pull` in a child process; closing the iterator ends it.

    Raises:
        AssistantError: it failed; the text and the exit code are the child's.
    """
    command = (sys.executable, "-P", "-m", "assistant.cli", "models", "pull", model_id, "--json")
    starting = asyncio.create_task(asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE))
    try:
        child = await asyncio.shield(starting)
        assert child.stdout is not None
        assert child.stderr is not None
        said = asyncio.create_task(child.stderr.read())
        async for line in child.stdout:
            yield PullProgress.model_validate_json(line)
        if code := await child.wait():
            raise _error((await said).decode(errors="replace"), code)
    finally:
        await _whole(asyncio.create_task(_ended(starting)))


async def _ended(starting: asyncio.Task[Process]) -> None:
    """Ask a child to end, and end it if it does not; nothing of it is left."""
    child = await starting
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(END_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


async def _whole(task: asyncio.Task[Any]) -> None:
    """Wait until the task is done, however often the one who waits is cancelled: a child must not be left behind."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def _path(name: str, rest: str = "") -> str:
    """The path of a conversation. Dots are encoded too, so that no name is read as a relative path."""
    return f"/api/conversations/{quote(name, safe='').replace('.', '%2E')}{rest}"


def _checked(name: str | None) -> str | None:
    """A name that a conversation can have."""
    try:
        return RestoreRequest(name=name).name
    except ValidationError:
        raise UsageError(f"{(name or '')[:100]!r} cannot be a name: 1 to 80 printable characters.") from None


def _error(said: str, code: int) -> AssistantError:
    lines = [line for line in said.splitlines() if line.strip()]
    message = lines[-1].removeprefix("assistant: ") if lines else f"The download ended with code {code}."
    return error_of(Failed(message=message, exit_code=code if code in set(Exit) else 1))
