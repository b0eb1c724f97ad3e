"""Making the calls of one reply: allowed, committed as running, executed, committed as ended. None is made twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from assistant.agent.approval import Approver, Denied, Taint, authorize
from assistant.agent.book import Approval, ApprovalBook, MemoryBook
from assistant.agent.definition import Tool
from assistant.agent.events import CallItem
from assistant.agent.execution import Result, execute, unavailable
from assistant.agent.limits import Limits
from assistant.agent.permit import Permit, arguments_digest
from assistant.agent.policy import Policy
from assistant.agent.sandbox import Sandbox
from assistant.agent.toolbox import BadCall, Toolbox
from assistant.agent.untrusted import as_data, shown
from assistant.client import Client
from assistant.errors import AssistantError
from assistant.places import Places
from assistant.protocol import ApprovalRow, CallChange, CallRow, Program, ProgramChange

AT_ONCE = 4
"""Calls of one reply that run at the same time."""
SAME = 3
"""So many times in a row the same call is made; the next one is not."""

_LONGEST = 60
"""Characters of an argument that a result repeats."""
_REPEATED = (
    "This is the same call with the same arguments as the {count} before it, so it was not made again. "
    "Use the result that you have, call something else, or answer."
)

Tell = Callable[[CallItem], None]


class Repeating(Exception):
    """The model makes the same call for ever, although it was told."""


class StoredBook(MemoryBook):
    """Decisions that the daemon's history keeps; answers for always come from there."""

    def __init__(self, client: Client, program: str, records: list[ApprovalRow]) -> None:
        super().__init__([Approval(**row.record) for row in records])
        self._client = client
        self._program = program

    async def record(self, approval: Approval) -> None:
        await super().record(approval)
        fields = {name: getattr(approval, name) for name in approval.__slots__}
        row = ApprovalRow(tool=approval.tool, record=fields, program=self._program)
        await self._client.note_approval(row)


@dataclass(slots=True)
class Rules:
    """What decides whether a call may be made."""

    policy: Policy
    approver: Approver | None
    approved: frozenset[str] = frozenset()


@dataclass(slots=True)
class Calls:
    """The calls of one program. `waiting` is the refusal of one that needs an approval that nobody could give."""

    client: Client
    program: Program
    toolbox: Toolbox
    book: ApprovalBook
    rules: Rules
    sandbox: Sandbox | None
    places: Places
    limits: Limits
    tell: Tell
    taint: Taint = field(default_factory=Taint)
    made: int = 0
    seconds: float = 0.0
    waiting: Denied | None = None
    _last: tuple[str, int] = ("", 0)

    async def make(self, rows: list[CallRow]) -> None:
        """Bring every call to its end; they run side by side once all of them were decided on.

        Raises:
            Repeating: the same call again, after its result said that it would not be made again.
            AssistantError: the daemon could not be told; what a call came to may be lost.
        """
        self.waiting = None
        decided = [await self._decided(row) for row in rows if row.result is None]
        going = [one for one in decided if one is not None]
        gate, failures = asyncio.Semaphore(AT_ONCE), list[AssistantError]()
        async with asyncio.TaskGroup() as group:
            for deed in going:
                group.create_task(self._within(gate, deed, failures))
        if failures:
            raise failures[0]

    async def refuse(self, rows: list[CallRow], result: str) -> None:
        """Make none of these calls; the model is told why."""
        for row in rows:
            if row.result is None:
                await self._end(row, CallChange(state="failed", result=result))

    async def _within(
        self, gate: asyncio.Semaphore, deed: Callable[[], Awaitable[None]], failures: list[AssistantError]
    ) -> None:
        """One call; where the daemon cannot be told of it, the others still come to their ends."""
        async with gate:
            try:
                await deed()
            except AssistantError as error:
                failures.append(error)

    async def _decided(self, row: CallRow) -> Callable[[], Awaitable[None]] | None:
        """What remains to be done for a call, or None when it has ended or waits."""
        self.tell(_item(row, "asked"))
        try:
            tool, arguments = self._checked(row)
            permit = await self._permitted(tool, arguments)
        except BadCall as error:
            await self._end(row, CallChange(state="failed", result=str(error)))
        except Denied as denied:
            await self._refused(row, denied)
        else:
            await self._taint(tool)
            return lambda: self._run(row, tool, arguments, permit)
        return None

    def _checked(self, row: CallRow) -> tuple[Tool, dict[str, Any]]:
        tool = self.toolbox.find(row.tool)
        arguments = self.toolbox.validated(row.tool, row.arguments)
        if why := unavailable(tool, self.sandbox):
            raise BadCall(why)
        self._note_repeated(row)
        return tool, arguments

    def _note_repeated(self, row: CallRow) -> None:
        key = f"{row.tool} {arguments_digest(row.arguments)}"
        count = self._last[1] + 1 if key == self._last[0] else 1
        self._last = key, count
        if count > SAME + 1:
            raise Repeating(f"The model calls {row.tool} with the same arguments again and again.")
        if count > SAME:
            raise BadCall(_REPEATED.format(count=SAME))

    async def _permitted(self, tool: Tool, arguments: dict[str, Any]) -> Permit:
        return await authorize(
            tool,
            arguments,
            self.taint,
            self.rules.policy,
            self.book,
            approver=self.rules.approver,
            approved=self.rules.approved,
            sandboxed=self.sandbox is not None and tool.start is not None,
        )

    async def _refused(self, row: CallRow, denied: Denied) -> None:
        """A refusal is told to the model; one for want of somebody to ask leaves the call to be made later."""
        if denied.reason in ("policy", "answer"):
            await self._end(row, CallChange(state="denied", result=str(denied)))
        else:
            self.waiting = self.waiting or denied
            self.tell(_item(row, "waiting"))

    async def _taint(self, tool: Tool) -> None:
        """What the program has seen is stored before it sees it."""
        before, self.taint = self.taint, self.taint.after(tool.traits)
        if self.taint != before:
            about = self.program.about | {"taint": self.taint.to_json()}
            await self.client.change_program(self.program.id, ProgramChange(about=about))
            self.program.about = about

    async def _run(self, row: CallRow, tool: Tool, arguments: dict[str, Any], permit: Permit) -> None:
        await self.client.change_call(self.program.id, row.id, CallChange(state="running"))
        self.tell(_item(row, "running"))
        result = await execute(
            tool, arguments, permit=permit, sandbox=self.sandbox, places=self.places, limits=self.limits
        )
        self.made += 1
        self.seconds += result.seconds
        said = f"{_label(row)} {'failed' if result.error else 'returned'}: {self._text(tool, result)}"
        change = CallChange(state="failed" if result.error else "done", result=said)
        await self._end(row, change, result)

    def _text(self, tool: Tool, result: Result) -> str:
        """What the model reads: what others may have written is marked as data."""
        clean = shown(result.text) or "(nothing)"
        return as_data(clean, tool.name, self.limits.output) if tool.traits.brings_untrusted else clean

    async def _end(self, row: CallRow, change: CallChange, result: Result | None = None) -> None:
        ended = await self.client.change_call(self.program.id, row.id, change)
        said = _item(ended, "timeout" if result is not None and result.kind == "timeout" else change.state)
        if result is not None:
            said.seconds, said.cut = round(result.seconds, 4), result.cut
        self.tell(said)


def _label(row: CallRow) -> str:
    """The call that a result answers, in short: some formats keep results and calls apart by their order alone."""
    parts = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in row.arguments.items())
    return f"{row.tool}({', '.join(part if len(part) <= _LONGEST else f'{part[:_LONGEST]}…' for part in parts)})"


def _item(row: CallRow, state: Any) -> CallItem:
    return CallItem(
        id=f"call-{row.id}",
        tool=row.tool,
        arguments=row.arguments,
        state=state,
        result=row.result,
        seconds=row.seconds,
    )
