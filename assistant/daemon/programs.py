"""Agent runs as the daemon sees them: their steps go down the lane, the calls in between are committed one by one.

The tools themselves run in the agent's own process; it says here when one begins and ends.
"""

from __future__ import annotations

from assistant.daemon.exchange import Errand, Exchange
from assistant.daemon.order import Priority
from assistant.daemon.service import Service, seconds
from assistant.history import History
from assistant.protocol import (
    Accepted,
    CallChange,
    Calling,
    CallRow,
    Program,
    ProgramChange,
    ProgramRequest,
    StepRequest,
)

_PRIORITY = {False: Priority.AGENT, True: Priority.CONTINUATION}
"""Of the first step of a program, and of those that follow."""


class Programs:
    """Programs of one daemon."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._records = service.records

    async def begin(self, request: ProgramRequest) -> Program:
        """Commit a new program; nothing runs before its first step is asked for."""
        system = self._service.engines.settings.system
        return await self.get(await self._records.run(History.begin_program, request, system))

    async def get(self, program: str) -> Program:
        """A program, with the calls of its last reply."""
        return await self._records.run(History.program, program)

    async def all(self) -> list[Program]:
        """Every program, the one written to last first."""
        return await self._records.run(History.programs)

    async def change(self, program: str, change: ProgramChange) -> Program:
        """Say how a program goes on or ended."""
        found = await self.get(program)
        await self._records.run(History.change_program, found.id, change)
        if change.state in ("done", "failed"):
            self._service.holding.let_go(await self._records.run(History.find, found.conversation))
        return await self.get(found.id)

    async def resume(self, program: str) -> Program:
        """Make a program ready to go on: what its agent left half done is settled, and nothing is done twice."""
        found = await self.get(program)
        await self._service.stop(found.conversation)
        await self._records.run(History.lose_calls, found.id)
        return await self.get(found.id)

    async def fork(self, program: str) -> Program:
        """Begin a program with everything this one has done."""
        return await self.get(await self._records.run(History.fork_program, program))

    async def step(self, program: str, request: StepRequest) -> Exchange:
        """Commit the results of the last calls, then put the next reply on its way."""
        sampling = self._service.sampling(request.sampling)
        spec = self._service.spec(request.engine)
        begun = (await self.get(program)).steps > 0
        with self._service.lane.admit(goes_on=begun):
            step = await self._records.run(History.begin_step, program, request.text)
        accepted = Accepted(conversation=step.name, turn_id=step.begun.turn_id, reply_id=step.begun.reply_id)
        calling = Calling(
            tools=step.tools, constrained=request.constrained, answer=request.answer, may_call=request.may_call
        )
        priority = Priority.BATCH if request.urgency == "batch" else _PRIORITY[begun]
        errand = Errand(
            accepted,
            step.begun.conversation_id,
            spec,
            sampling,
            calling,
            priority,
            step.arrived,
            keep_alive=seconds(request.keep_alive),
        )
        return self._service.submit(errand)

    async def call(self, program: str, call: int, change: CallChange) -> CallRow:
        """A tool of this program begins or has ended."""
        return await self._records.run(History.change_call, program, call, change)
