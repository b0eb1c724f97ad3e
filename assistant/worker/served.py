"""A model that a server runs: the text goes there, what is remembered of it stays here.

What does not fit into what the server reads is stood in for by dated text of the episode that the question is about.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import torch

from assistant.agent.formats import SERVED
from assistant.dialogue import said_in
from assistant.errors import BudgetError
from assistant.orders import ModelSpec, Run, WorkerDone, WorkerEvent, WorkerTurn
from assistant.protocol import Attended, Notice, Switched, Usage, Written
from assistant.reports import SERVER, MemorySplit
from assistant.served.body import body_of
from assistant.served.messages import Fitted, NoRoom, fit, said, spoken
from assistant.served.reply import Reply
from assistant.served.upstream import TooLongThere, Upstream
from assistant.served.wire import Spent
from assistant.worker.calling import taken_apart
from assistant.worker.episodes import open_episodes, route_of, turns_of, wait_for, written_after
from memory.episode_view import Route, SegmentView
from memory.errors import TextTooLong
from memory.minilm import encoder_room
from memory.segment import EpisodeTurn, lines

CONTEXT = 8192
"""Tokens that a model is taken to read whose server says nothing and whose entry has no `context`."""

BYTES_PER_TOKEN = 3.0
"""Until the server has counted a prompt: few, so that hardly any text has more tokens than planned for."""

FEWEST, MOST = 2.0, 6.0
"""What a server's count may come to: one that cuts prompts in silence counts what is left of them."""

TELLING = 2000
"""Bytes of a prompt from which on its count says something about text, and not about what the template adds."""

ATTEMPTS = 3
"""Prompts that are sent where a server finds them too long, each with half the room of the one before."""

CANCEL_S = 0.05

Send = Callable[[WorkerEvent], None]


class Served:
    """One model of one server, and the episodes of the conversations with it."""

    def __init__(self, spec: ModelSpec) -> None:
        """Nothing is asked of the server yet.

        Raises:
            AssistantError: the episodes cannot be kept.
        """
        assert spec.server is not None
        cpu = torch.device("cpu")
        self.spec = spec
        self.episodes = open_episodes(spec, encoder_room(), cpu)
        self._upstream = Upstream(spec.server)
        self._name = spec.server.model
        self._context = spec.server.context or 0
        self._bytes_per_token = BYTES_PER_TOKEN
        self._routes = dict[str, Route | None]()

    def split(self) -> MemorySplit:
        """Nothing of a budget is used."""
        return MemorySplit(device=SERVER)

    def run(self, request: Run, send: Send, cancelled: threading.Event) -> WorkerDone:
        """Answer one request; events go to `send` on the way.

        Raises:
            AssistantError: the server does not answer as it should; BudgetError where the text does not fit.
        """
        started, route = time.perf_counter(), None
        reply = Reply(thoughts=request.calling is None or request.calling.answer is None)
        fitted = Fitted([], 0, 0)
        if request.sampling is None:
            reply.finish = "read"
        else:
            route = self._route(request, send)
            fitted = asyncio.run(self._converse(request, route, reply, send, cancelled))
        self._observe(request, reply, cancelled)
        return WorkerDone(
            text=reply.text,
            finish=reply.finish,
            usage=self._usage(request, fitted, reply, route, started),
            token_ids={},
            memory=self.split(),
            written=_written(request, reply),
        )

    def _route(self, request: Run, send: Send) -> Route | None:
        """Where the question goes; a step of an agent goes where its question went."""
        if request.turns[-1].role == "user":
            route = self._routes[request.conversation] = route_of(self.episodes, request)
            if route is not None and route.switched:
                send(Switched(episode=route.episode))
        return self._routes.get(request.conversation)

    async def _converse(
        self, request: Run, route: Route | None, reply: Reply, send: Send, cancelled: threading.Event
    ) -> Fitted:
        """Have the reply written with as much of the conversation as fits: less, and saying so, where the server counts
        otherwise than we do."""
        assert request.sampling is not None
        if not await _unless(cancelled, self._introduce(send)):
            reply.finish = "cancelled"
            return Fitted([], 0, 0)
        spoken = min(request.sampling.max_tokens, self._context // 2)
        room = self._room(request, self._context - spoken)
        for left in reversed(range(ATTEMPTS)):
            fitted = await asyncio.to_thread(self._fit, request, route, room)
            writing = self._write(request, fitted, spoken, reply, send)
            try:
                if not await _unless(cancelled, writing):
                    reply.finish = "cancelled"
            except TooLongThere as error:
                if not left or reply.text:
                    raise BudgetError(str(error)) from error
                room = min(room, fitted.size) // 2
                send(Notice(text=f"{error} It is sent again with half of the history."))
            else:
                break
        return fitted

    async def _introduce(self, send: Send) -> None:
        """Once: the model's name and how much it reads, where that is not known."""
        if self._name and self._context:
            return
        listed = await self._upstream.model()
        self._name, self._context = listed.id, self._context or listed.context or 0
        if not self._context:
            self._context = CONTEXT
            told = (
                f"{self._upstream.spec.url} does not say how much {self._name} reads: {CONTEXT:,} tokens are assumed."
            )
            send(Notice(text=f"{told} If that is wrong, set context in its entry of the catalogue."))

    def _fit(self, request: Run, route: Route | None, room: int) -> Fitted:
        try:
            return fit(
                request.turns, room, lambda sent, size: self._recalled(request, route, sent, size), request.calling
            )
        except NoRoom as error:
            needed, limit = self._tokens(error.needed), self._tokens(max(0, error.room))
            told = TextTooLong(
                f"The question has about {needed:,} tokens with what must go with it (an estimate), and beside the "
                f"reply {self.spec.id} reads about {limit:,}. Shorten it, or what its tools return.",
                needed,
                limit,
            )
            raise BudgetError(str(told)) from told

    def _recalled(self, request: Run, route: Route | None, sent: set[int], room: int) -> str:
        """Dated text of the routed episode that is not sent anyway: what is most like the question, in its order."""
        if route is None or route.episode is None:
            return ""
        away = {turn.id: turn for turn in request.turns if turn.id not in sent}
        asked = next(turn.text for turn in reversed(request.turns) if turn.role == "user")
        near, chosen, taken = list[SegmentView](), list[tuple[int, str]](), 0
        with suppress(RuntimeError, OSError):  # their file cannot be read, or there is no memory left: as without them
            near = self.episodes.nearest(request.conversation, route.episode, asked)
        for segment in near:
            text = "\n".join(filter(None, lines(_whole(segment, away))))
            size = len(text.encode("utf-8", "replace")) + 2
            if text and taken + size <= room:
                chosen.append((segment.segment, text))
                taken += size
        return "\n\n".join(text for _, text in sorted(chosen))

    async def _write(self, request: Run, fitted: Fitted, spoken: int, reply: Reply, send: Send) -> None:
        async for chunk in self._upstream.reply(body_of(self._name, request, fitted.messages, spoken)):
            if (piece := reply.take(chunk)) is not None:
                send(piece)
        if (piece := reply.ending()) is not None:
            send(piece)

    def _observe(self, request: Run, reply: Reply, cancelled: threading.Event) -> None:
        """Put what was said into episodes; an import is done when they are."""
        turns = request.turns
        if request.reply_id is not None and reply.text:
            turns = [*turns, written_after(turns, request.reply_id, reply.text)]
        sizes = [round(len(turn.text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) for turn in turns]
        observed = self.episodes.observe(request.conversation, turns_of(turns, sizes))
        if request.sampling is None:
            wait_for(observed, cancelled.is_set)

    def _usage(self, request: Run, fitted: Fitted, reply: Reply, route: Route | None, started: float) -> Usage:
        """What the server counted; estimates from sizes where it says nothing (and of `recalled_tokens`)."""
        size = fitted.size + _shown(request)
        spent = reply.spent or Spent(prompt_tokens=self._tokens(size), completion_tokens=reply.pieces)
        if reply.spent is not None and spent.prompt_tokens and size >= TELLING:
            self._bytes_per_token = min(MOST, max(FEWEST, size / spent.prompt_tokens))
        return Usage(
            prompt_tokens=spent.prompt_tokens,
            cached_tokens=spent.cached,
            computed_tokens=max(0, spent.prompt_tokens - spent.cached),
            completion_tokens=spent.completion_tokens,
            resident_tokens=spent.prompt_tokens,
            stored_tokens=self._known(request, fitted, spent),
            episode=None if route is None else str(route.episode),
            recalled_tokens=self._tokens(fitted.recalled),
            ttft_s=round((reply.first_at or time.perf_counter()) - started, 4),
            decode_tok_s=reply.rate(),
            peak_bytes=0,
            budget_bytes=0,
            mode=_mode(fitted),
        )

    def _known(self, request: Run, fitted: Fitted, spent: Spent) -> int:
        """Tokens of the whole conversation: what was sent, or an estimate where that was not all."""
        if not fitted.left_out:
            return spent.prompt_tokens
        return self._tokens(sum(len(turn.text.encode("utf-8", "replace")) for turn in request.turns))

    def _room(self, request: Run, tokens: int) -> int:
        """Bytes that messages may have where a prompt may have so many tokens."""
        return int(tokens * self._bytes_per_token) - _shown(request)

    def _tokens(self, size: int) -> int:
        return round(size / self._bytes_per_token)


async def _unless(cancelled: threading.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do it to its end, or until nobody wants it any more; whether it came to its end."""
    task = asyncio.create_task(work)
    while not task.done() and not cancelled.is_set():
        await asyncio.wait([task], timeout=CANCEL_S)
    if task.done():
        await task
        return True
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return False


def _shown(request: Run) -> int:
    """Bytes of the tools that are shown."""
    return sum(len(tool.model_dump_json()) for tool in request.calling.tools) if request.calling else 0


def _whole(segment: SegmentView, away: dict[int, WorkerTurn]) -> list[EpisodeTurn]:
    """The turns of a segment that are `away`, with all that they say and the date that was noted."""
    return [
        EpisodeTurn(view.turn, view.speaker, _text_of(away[view.turn]), view.date)
        for view in segment.turns
        if view.turn in away
    ]


def _text_of(turn: WorkerTurn) -> str:
    return said_in(turn.role, said(turn.text) if turn.role == "assistant" else turn.text).text


def _written(request: Run, reply: Reply) -> Written | None:
    """The reply taken apart; what was thought aloud calls nothing, and stays in front of the text."""
    if request.calling is None:
        return None
    after = spoken(reply.text)
    written = taken_apart(after, request.calling, SERVED, reply.finish)
    written.text = reply.text.removesuffix(after) + written.text
    return written


def _mode(fitted: Fitted) -> Attended:
    if not fitted.left_out:
        return "exact"
    return "recall" if fitted.recalled else "bounded"
