"""One request at a time: load what it names, resume, read, write the reply, report what it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from assistant.errors import BudgetError
from assistant.protocol import (
    Loading,
    MemorySplit,
    ModelSpec,
    Piece,
    Prefill,
    Run,
    Sampling,
    Usage,
    WorkerDone,
    WorkerEvent,
    WorkerStatus,
)
from assistant.template import Prompt, build_prompt
from assistant.worker.loader import Loaded, load
from assistant.worker.sampling import Sampler, TextStream
from memory.errors import BudgetExceeded, BudgetTooSmall, Cancelled
from memory.store import Resumed

Send = Callable[[WorkerEvent], None]
Finish = Literal["stop", "length", "cancelled", "read"]

_LOST = (
    "the KV of this conversation was no longer in memory (another conversation was used, or the daemon or its worker "
    "was started anew)"
)


@dataclass(slots=True)
class Reply:
    """What was written: ids as sampled, text as shown, how it ended, and when tokens came (seconds)."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish = "length"
    first_at: float | None = None
    last_at: float = 0.0


class Engine:
    """Owns the loaded model and the memory of the conversation used last."""

    def __init__(self) -> None:
        self.loaded: Loaded | None = None
        self.conversation: str | None = None
        self.cancelled = threading.Event()

    def run(self, request: Run, send: Send) -> WorkerDone:
        """Answer one request; events go to `send` on the way.

        Raises:
            AssistantError: with the exit code the client should end with.
        """
        started = time.perf_counter()
        try:
            loaded = self._load(request.spec, send)
            return self._answer(loaded, request, send, started)
        except (BudgetTooSmall, BudgetExceeded) as error:
            raise BudgetError(str(error)) from error
        except torch.OutOfMemoryError as error:
            self._forget()
            raise BudgetError("The device ran out of memory. Use a smaller --budget or a smaller model.") from error

    def status(self) -> WorkerStatus:
        """What is loaded and where the budget goes."""
        model = self.loaded.spec.id if self.loaded else None
        return WorkerStatus(model=model, memory=self._split())

    def _answer(self, loaded: Loaded, request: Run, send: Send, started: float) -> WorkerDone:
        if self.conversation != request.conversation:
            loaded.memory.clear()
            self.conversation = request.conversation
        prompt = build_prompt(loaded.tokenizer, request.turns, reply=request.sampling is not None)
        ids = prompt.ids
        loaded.memory.protect(prompt.prefix)
        resumed = loaded.memory.resume(ids) if request.sampling else loaded.memory.resume([*ids, -1])
        reply = Reply(finish="read")
        try:
            logits = self._read(loaded, ids[resumed.reused :], send)
            if request.sampling is not None and logits is not None:
                self._write(loaded, request.sampling, ids, logits, reply, send)
        except Cancelled:
            reply.finish = "cancelled"
        usage = _usage(loaded, request, resumed, len(ids), reply, started)
        return WorkerDone(
            text=reply.text,
            finish=reply.finish,
            usage=usage,
            token_ids=_new_ids(request, prompt, reply),
            memory=self._split(),
        )

    def _read(self, loaded: Loaded, ids: list[int], send: Send) -> Tensor | None:
        """Read `ids` with progress; None when there is nothing to read."""
        started = time.perf_counter()

        def progress(done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - started, 1e-9)
            send(Prefill(done=done, total=total, tok_s=round(rate, 1)))
            if self.cancelled.is_set():
                raise Cancelled

        return loaded.memory.read(ids, progress) if ids else None

    def _write(
        self, loaded: Loaded, sampling: Sampling, ids: list[int], logits: Tensor, reply: Reply, send: Send
    ) -> None:
        stream = TextStream(loaded.tokenizer, sampling.stop)
        for token in self._tokens(loaded, sampling, ids, logits, reply):
            reply.ids.append(token)
            self._show(stream.feed(token), reply, send)
            if stream.stopped:
                reply.finish = "stop"
                break
        self._show(stream.finish(), reply, send)

    def _tokens(
        self, loaded: Loaded, sampling: Sampling, ids: list[int], logits: Tensor, reply: Reply
    ) -> Iterator[int]:
        """Sampled tokens until the model, the caller or the limit ends the reply."""
        sampler = Sampler(sampling, ids, logits.device)
        for count in range(sampling.max_tokens):
            token = sampler.next(logits)
            reply.last_at = time.perf_counter()
            reply.first_at = reply.first_at or reply.last_at
            if token in loaded.stops:
                reply.finish = "stop"
                return
            yield token
            if self.cancelled.is_set():
                reply.finish = "cancelled"
                return
            if count + 1 < sampling.max_tokens:
                logits = loaded.memory.step(token)
        reply.finish = "length"

    def _show(self, text: str, reply: Reply, send: Send) -> None:
        if text:
            reply.text += text
            send(Piece(text=text))

    def _load(self, spec: ModelSpec, send: Send) -> Loaded:
        if self.loaded is not None and self.loaded.spec == spec:
            return self.loaded
        self._forget()
        self.loaded = load(spec, lambda done, total: send(Loading(model=spec.id, done_bytes=done, total_bytes=total)))
        return self.loaded

    def _forget(self) -> None:
        """Let go of the model and its memory."""
        self.loaded, self.conversation = None, None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _split(self) -> MemorySplit:
        if self.loaded is None:
            return MemorySplit()
        plan, memory = self.loaded.memory.plan, self.loaded.memory
        return MemorySplit(
            budget=plan.budget,
            weights=plan.weights,
            kv=plan.kv,
            staging=plan.staging,
            activations=plan.activations,
            peak=self.loaded.gauge.peak(),
            capacity_tokens=plan.capacity,
            resident_tokens=memory.resident,
            stored_tokens=max(len(memory.tokens), memory.resident),
            device=str(self.loaded.gauge.device),
            quant=self.loaded.quant,
        )


def _new_ids(request: Run, prompt: Prompt, reply: Reply) -> dict[int, list[int]]:
    """Ids to record: of turns read for the first time, and of the reply with the template's opening."""
    fresh = {turn.id: piece for turn, piece in zip(request.turns, prompt.pieces, strict=True) if turn.token_ids is None}
    if request.reply_id is not None and reply.ids:
        fresh[request.reply_id] = prompt.opening + reply.ids
    return fresh


def _usage(loaded: Loaded, request: Run, resumed: Resumed, prompt: int, reply: Reply, started: float) -> Usage:
    known = _known(request)
    recomputed = max(0, min(known, prompt) - resumed.reused)
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=resumed.reused,
        computed_tokens=prompt - resumed.reused,
        completion_tokens=len(reply.ids),
        resident_tokens=loaded.memory.resident,
        stored_tokens=prompt + len(reply.ids),
        episode=None,
        recalled_tokens=0,
        ttft_s=round((reply.first_at or time.perf_counter()) - started, 4),
        decode_tok_s=_rate(reply),
        peak_bytes=loaded.gauge.peak(),
        budget_bytes=loaded.memory.plan.budget,
        mode="exact" if loaded.memory.complete else "bounded",
        recomputed_tokens=recomputed,
        recompute_reason=(resumed.reason or _LOST) if recomputed else None,
    )


def _known(request: Run) -> int:
    """Tokens at the start of the conversation that were read before; a reply's last token was written, never read."""
    total, last = 0, None
    for turn in request.turns:
        if turn.token_ids is None:
            break
        total, last = total + len(turn.token_ids), turn
    return total - 1 if last is not None and last.role == "assistant" else total


def _rate(reply: Reply) -> float | None:
    """Tokens per second after the first one; None for fewer than two."""
    if reply.first_at is None or len(reply.ids) < 2:
        return None
    return round((len(reply.ids) - 1) / max(reply.last_at - reply.first_at, 1e-9), 2)
