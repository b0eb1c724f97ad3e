"""The loop of an agent run: a step of the model, the calls it asks for, and again, until it answers or must stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from assistant.agent.arguments import complaints
from assistant.agent.events import Delta, Message, Note, Reason, Total
from assistant.agent.making import Calls, Repeating
from assistant.client import Client, error_of
from assistant.errors import AssistantError, Exit
from assistant.protocol import (
    Done,
    Engine,
    Failed,
    Notice,
    Piece,
    Program,
    Queued,
    Sampling,
    StepRequest,
    Urgency,
    Usage,
    Written,
)

UNREADABLE = 3
"""Replies in a row that can be neither called nor taken as an answer."""


_ANSWER_NOW = "Nothing more can be called. Answer the task in plain words with the results that you have."


class Stopped(AssistantError):
    """A run that ended without an answer; `reason` is that of the result."""

    def __init__(self, message: str, reason: Reason, exit_code: Exit) -> None:
        super().__init__(message, exit_code=exit_code)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Terms:
    """How the steps of a run are asked for. `turns` is the most steps of one invocation."""

    sampling: Sampling
    engine: Engine
    turns: int = 20
    constrained: bool = True
    answer: dict[str, Any] | None = None
    urgency: Urgency = "agent"
    deltas: bool = False


@dataclass(slots=True)
class Loop:
    """One invocation of one program."""

    client: Client
    program: Program
    calls: Calls
    terms: Terms
    tell: Callable[[BaseModel], None]
    total: Total = field(default_factory=Total)
    steps: int = 0
    _unreadable: int = 0

    async def run(self) -> str:
        """Go on until the model answers; the answer.

        Raises:
            Stopped: a limit was reached, or the model goes in circles.
            Denied: a call needs an approval that nobody could give; the run can be resumed with one.
        """
        said: str | None = None
        while True:
            try:
                await self._make_calls()
            except Repeating as error:
                return await self._last_words(str(error))
            if self.steps >= self.terms.turns:
                raise Stopped(f"No answer after {self.steps} steps (see --max-turns).", "step_limit", Exit.LIMIT)
            done = await self._step(said)
            written = done.written or Written(text=done.text)
            self._tell_message(done, written)
            if not written.calls and not written.problems:
                return self._answer(done, written)
            said = self._problems(written)

    async def _make_calls(self) -> None:
        """The calls that the last reply left open."""
        found = await self.client.program(self.program.id)
        await self.calls.make(found.calls)
        if self.calls.waiting is not None:
            raise self.calls.waiting

    async def _last_words(self, why: str) -> str:
        """A model that goes in circles is asked for its answer: one more reply, in which nothing can be called."""
        self.tell(Note(text=f"{why} It is asked for its answer."))
        await self.calls.refuse((await self.client.program(self.program.id)).calls, _ANSWER_NOW)
        done = await self._step(None, may_call=False)
        written = done.written or Written(text=done.text)
        self._tell_message(done, written)
        if not written.text.strip() or written.calls:
            raise Stopped(why, "repeated_call", Exit.FAILED)
        return self._answer(done, written)

    async def _step(self, said: str | None, *, may_call: bool = True) -> Done:
        request = StepRequest(
            sampling=self.terms.sampling,
            engine=self.terms.engine,
            text=said,
            constrained=self.terms.constrained,
            answer=self.terms.answer,
            may_call=may_call,
            urgency=self.terms.urgency,
        )
        self.steps += 1
        began = time.monotonic()
        async for event in self.client.step(self.program.id, request):
            match event:
                case Queued():
                    self.tell(Note(text=f"waiting for the device, number {event.position} in line"))
                case Notice():
                    self.tell(Note(text=event.text))
                case Piece() if self.terms.deltas:
                    self.tell(Delta(id=f"message-{self.steps}", text=event.text))
                case Failed():
                    raise error_of(event)
                case Done():
                    self._count(event.usage, time.monotonic() - began)
                    return event
        raise AssertionError("the client ends every stream with Done or Failed")

    def _answer(self, done: Done, written: Written) -> str:
        if done.finish == "cancelled":
            raise Stopped("The run was stopped by another client; it can be resumed.", "interrupted", Exit.SIGINT)
        if done.finish == "length":
            tokens = done.usage.completion_tokens
            raise Stopped(f"The answer was cut at {tokens} tokens (see --max-tokens).", "token_limit", Exit.LIMIT)
        if self.terms.answer is not None:
            self._check_shape(written.text)
        return written.text.strip()

    def _check_shape(self, text: str) -> None:
        """While it was written its shape was seen to, unless that was switched off."""
        assert self.terms.answer is not None
        try:
            wrong = complaints(self.terms.answer, json.loads(text), "the answer")
        except ValueError:
            wrong = ["It is no JSON."]
        if wrong:
            sentence = f"The answer does not follow the schema: {' '.join(wrong)}"
            raise Stopped(sentence, "failed", Exit.FAILED)

    def _problems(self, written: Written) -> str | None:
        """What the model is told about calls that could not be read."""
        self._unreadable = 0 if written.calls else self._unreadable + 1
        if self._unreadable >= UNREADABLE:
            sentence = f"{UNREADABLE} replies in a row held no call that can be made. The last: {written.problems[0]}"
            raise Stopped(sentence, "unreadable_calls", Exit.FAILED)
        return " ".join(written.problems) or None

    def _tell_message(self, done: Done, written: Written) -> None:
        message = Message(
            id=f"message-{self.steps}",
            step=self.steps,
            text=written.text,
            calls=len(written.calls),
            problems=written.problems,
            usage=done.usage,
        )
        self.tell(message)

    def _count(self, usage: Usage, seconds: float) -> None:
        total = self.total
        for name in ("prompt_tokens", "cached_tokens", "computed_tokens", "completion_tokens", "recomputed_tokens"):
            setattr(total, name, getattr(total, name) + getattr(usage, name))
        total.peak_bytes = max(total.peak_bytes, usage.peak_bytes)
        total.model_s = round(total.model_s + seconds, 4)
        total.tools_s = round(self.calls.seconds, 4)
