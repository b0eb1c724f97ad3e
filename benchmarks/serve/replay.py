"""An open loop: requests are sent when the trace says, whether or not others were answered; what became of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from benchmarks.serve.prompts import Message, Prompts
from benchmarks.serve.trace import Request

DEADLINE_S = 3600.0
PATH = "/v1/chat/completions"


@dataclass(slots=True)
class Outcome:
    """What became of a request. Seconds count from the moment it was due; `gaps` are between pieces of the reply.

    `over_s`: seconds to the first piece beyond what the server says it waited and computed; None where it does not say.
    """

    request: Request
    status: int = 0
    why: str = ""
    first_s: float | None = None
    total_s: float = 0.0
    gaps: list[float] = field(default_factory=list)
    prompt: int = 0
    cached: int = 0
    written: int = 0
    over_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether it was answered in full."""
        return self.status == 200 and not self.why


class Replay:
    """One run of a trace against one server."""

    def __init__(self, http: httpx2.AsyncClient, model: str, prompts: Prompts) -> None:
        self._http = http
        self._model = model
        self._prompts = prompts
        self._sessions: defaultdict[str | None, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, requests: Sequence[Request]) -> list[Outcome]:
        """Every request at its time; a session's wait for the reply before them."""
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._at(begin + one.at, one)) for one in requests]
        return [task.result() for task in tasks]

    async def _at(self, due: float, request: Request) -> Outcome:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if request.session is None:
            return await self._send(request, due)
        async with self._sessions[request.session]:
            return await self._send(request, max(due, time.perf_counter()))

    async def _send(self, request: Request, due: float) -> Outcome:
        outcome, text = Outcome(request), list[str]()
        messages = self._prompts.messages(request)
        try:
            await self._stream(messages, outcome, text, due)
        except (httpx2.TransportError, ValueError) as error:
            outcome.why = f"{type(error).__name__}: {error}"
        outcome.total_s = time.perf_counter() - due
        if outcome.ok:
            self._prompts.answered(request, "".join(text), outcome.prompt + outcome.written)
        else:
            self._prompts.failed(request)
        return outcome

    async def _stream(self, messages: list[Message], outcome: Outcome, text: list[str], due: float) -> None:
        body = {"model": self._model, "messages": messages, "stream": True, "max_tokens": outcome.request.reply}
        body |= {"temperature": 0.0, "stream_options": {"include_usage": True}}
        sent = time.perf_counter()
        async with self._http.stream("POST", PATH, json=body, timeout=DEADLINE_S) as answer:
            outcome.status = answer.status_code
            if answer.is_error:
                outcome.why = (await answer.aread()).decode(errors="replace")[:300]
                return
            outcome.why = "the stream ended early"
            last = sent
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    outcome.why = ""
                elif line.startswith("data: "):
                    last = self._note(json.loads(line[6:]), outcome, text, due, last)
            if outcome.over_s is not None and outcome.first_s is not None:
                outcome.over_s += outcome.first_s - (sent - due)

    def _note(self, event: dict[str, Any], outcome: Outcome, text: list[str], due: float, last: float) -> float:
        """Take one event; when the latest piece came."""
        now = time.perf_counter()
        if (usage := event.get("usage")) is not None:
            _count(usage, event.get("assistant"), outcome)
        if "error" in event:
            raise ValueError(str(event["error"].get("message", event["error"])))
        piece = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
        if not piece:
            return last
        text.append(piece)
        if outcome.first_s is None:
            outcome.first_s = now - due
        else:
            outcome.gaps.append(now - last)
        return now


def _count(usage: dict[str, Any], ours: dict[str, Any] | None, outcome: Outcome) -> None:
    outcome.prompt, outcome.written = usage["prompt_tokens"], usage["completion_tokens"]
    outcome.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    if ours is not None:
        outcome.over_s = -ours["ttft_s"] - ours["queued_s"]
