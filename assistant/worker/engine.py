"""One request at a time: load what it names, resume, read, write the reply, report what it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor

from assistant.errors import AssistantError, BudgetError, UsageError
from assistant.orders import (
    Aside,
    Check,
    Checked,
    Embed,
    Embedded,
    Explain,
    Explained,
    Forget,
    Forgotten,
    ModelSpec,
    Plan,
    Planned,
    Run,
    WorkerDone,
    WorkerStatus,
)
from assistant.protocol import (
    Evicted,
    Failed,
    Finish,
    Loading,
    Notice,
    Piece,
    Prefill,
    Receipt,
    Resumed,
    Sampling,
    Switched,
    TooLong,
    Usage,
)
from assistant.reports import MemorySplit
from assistant.template import Prompt, build_prompt
from assistant.worker.embedding import Embedder
from assistant.worker.episodes import (
    explain,
    focus,
    prepare,
    recalled_json,
    route_of,
    turns_of,
    wait_for,
    written_after,
)
from assistant.worker.loader import Loaded, load
from assistant.worker.preview import preview, split_of
from assistant.worker.sampling import Likelihoods, Sampler, TextStream
from assistant.worker.served import Send, Served
from assistant.worker.shelf import check, forget, kv_status
from memory.episode_view import Route
from memory.errors import BudgetExceeded, BudgetTooSmall, Cancelled, TextTooLong
from memory.store import Resumed as Found

_LOST = "its KV was no longer in memory, and nothing is kept on disk (spill is off)"


@dataclass(slots=True)
class Reply:
    """What was written: ids as sampled, text as shown, how it ended, and when tokens came (seconds)."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish = "length"
    first_at: float | None = None
    last_at: float = 0.0
    unread: bool = False
    """Whether the last id was sampled and not read."""


class Engine:
    """Owns the loaded model and its memory."""

    def __init__(self) -> None:
        self.loaded: Loaded | None = None
        self.served: Served | None = None
        self.cancelled = threading.Event()
        self.embedder = Embedder()
        self._told = dict[str, str | None]()
        self._observed: tuple[str, Future[None]] | None = None
        self._evictions = 0

    def run(self, request: Run, send: Send) -> WorkerDone:
        """Answer one request; events go to `send` on the way.

        Raises:
            AssistantError: with the exit code the client should end with.
        """
        started = time.perf_counter()
        try:
            if request.spec.server is not None:
                return self._elsewhere(self._serve(request.spec), request, send)
            loaded = self._load(request.spec, send)
            return self._answer(loaded, request, send, started)
        except (BudgetTooSmall, BudgetExceeded, TextTooLong) as error:
            raise BudgetError(str(error)) from error
        except torch.OutOfMemoryError as error:
            self._forget()
            raise BudgetError("The device ran out of memory. Use a smaller --budget or a smaller model.") from error

    def aside(self, request: Aside) -> WorkerStatus | Forgotten | Checked | Explained | Planned | Embedded:
        """Answered from another thread while a reply may be on its way.

        Raises:
            AssistantError: the answer is that it cannot be.
        """
        match request:
            case Forget():
                if self.served is not None:
                    self.served.episodes.forget(request.conversation)
                forget(self.loaded, request)
                return Forgotten()
            case Check():
                return Checked(report=check(self.loaded, request))
            case Explain():
                return Explained(episodes=explain(self.loaded, request))
            case Plan() if self.served is not None:
                raise UsageError(f"{self.served.spec.id} runs on a server: a budget here is not for it.")
            case Plan():
                return Planned(memory=preview(self.loaded, request))
            case Embed():
                return self.embedder.embed(self.loaded or self.served, request)
            case _:
                model = self.loaded or self.served
                return WorkerStatus(
                    model=model.spec.id if model else None, memory=self._split(), kv=kv_status(self.loaded)
                )

    def rest(self, busy: Callable[[], bool]) -> None:
        """Nothing is asked: prepare what the next question may need, until `busy` says that something is."""
        if self.loaded is None or self._observed is None:
            return
        conversation, observed = self._observed
        self._observed = None
        wait_for(observed, busy)
        if not busy():
            prepare(self.loaded, conversation, busy)

    def recover(self) -> None:
        """After an error nobody foresaw: trust nothing that is on the device."""
        if self.loaded is not None:
            self.loaded.memory.clear()

    def close(self) -> None:
        """Write what waits to be written, then let go of everything."""
        self._forget()

    def _elsewhere(self, served: Served, request: Run, send: Send) -> WorkerDone:
        done = served.run(request, send, self.cancelled)
        self._tell("episodes", served.episodes.failure, send)
        return done

    def _answer(self, loaded: Loaded, request: Run, send: Send, started: float) -> WorkerDone:
        tools = request.calling.tools if request.calling else []
        prompt = build_prompt(loaded.tokenizer, request.turns, reply=request.sampling is not None, tools=tools)
        ids = prompt.ids
        constraint = loaded.caller.constraint(request.calling)
        route = route_of(loaded.episodes, request)
        if route is not None and route.switched:
            send(Switched(episode=route.episode))
        self._evictions = loaded.memory.evictions
        found, receipt = self._resume(loaded, request, prompt, send)
        reply = Reply(finish="read")
        moved = focus(loaded, request.conversation, route) if request.sampling is not None else 0
        try:
            logits = self._read(loaded, ids[found.reused :], receipt, send)
            if request.sampling is not None and logits is not None:
                sampler = Sampler(request.sampling, ids, logits.device, constraint)
                if request.logprobs is not None:
                    sampler.likelihoods = Likelihoods(loaded.tokenizer, request.logprobs)
                self._write(loaded, request.sampling, sampler, logits, reply, send)
        except Cancelled:
            reply.finish = "cancelled"
        self._tell_evictions(loaded, send)
        self._seal(loaded, reply, send)
        observed = _observe(loaded, request, prompt, reply)
        self._observed = request.conversation, observed
        if request.sampling is None:  # an import is done when its episodes are; after a reply nobody waits for them
            wait_for(observed, self.cancelled.is_set)
        usage = _usage(loaded, found, receipt, len(ids), reply, started, route)
        usage.recalled_tokens += moved
        return WorkerDone(
            text=reply.text,
            finish=reply.finish,
            usage=usage,
            token_ids=_new_ids(request, prompt, reply),
            memory=self._split(),
            resident=list(loaded.memory.sets()),
            written=loaded.caller.written(request.calling, reply.ids, reply.text, reply.finish),
        )

    def _resume(self, loaded: Loaded, request: Run, prompt: Prompt, send: Send) -> tuple[Found, Receipt | None]:
        """Make the conversation active with all that is known of it; a receipt if it was read before."""
        started, memory, ids = time.perf_counter(), loaded.memory, prompt.ids
        memory.pins = request.pins
        expected = len(ids) + (request.sampling.max_tokens if request.sampling else 0)
        memory.open(request.conversation, request.origins, expected, share=request.share)
        memory.protect(prompt.prefix)
        memory.admit(len(ids))
        found = memory.resume(ids if request.sampling else [*ids, -1])
        known = min(_known(request), len(ids))
        if not known:
            return found, None
        recomputed = max(0, known - found.reused)
        receipt = Receipt(
            seconds=round(time.perf_counter() - started, 4),
            reused=found.reused,
            recomputed=recomputed,
            source=found.source,
            reason=(found.reason or _LOST) if recomputed else None,
            recompute_s=None,
        )
        send(Resumed(receipt=receipt))
        return found, receipt

    def _seal(self, loaded: Loaded, reply: Reply, send: Send) -> None:
        """Read the reply's last token too, so that nothing of the turn is left to read, and store the open chunk."""
        memory = loaded.memory
        if reply.ids and len(memory.tokens) and reply.unread:
            memory.step(reply.ids[-1])
        memory.seal()
        self._tell("spill", memory.spill.notice if memory.spill else None, send)
        self._tell("episodes", loaded.episodes.failure, send)

    def _tell(self, source: str, notice: str | None, send: Send) -> None:
        """Say something once, until it is something else."""
        if notice is not None and notice != self._told.get(source):
            send(Notice(text=notice))
        self._told[source] = notice

    def _tell_evictions(self, loaded: Loaded, send: Send) -> None:
        """Say how often entries left the working set since this was said last."""
        memory, before = loaded.memory, self._evictions
        self._evictions = memory.evictions
        if self._evictions > before:
            times = self._evictions - before
            send(Evicted(times=times, resident_tokens=memory.resident, stored_tokens=len(memory.tokens)))

    def _read(self, loaded: Loaded, ids: list[int], receipt: Receipt | None, send: Send) -> Tensor | None:
        """Read `ids` with progress, and note what it took to read some of them again; None when there are none."""
        started = time.perf_counter()

        def progress(done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - started, 1e-9)
            send(Prefill(done=done, total=total, tok_s=round(rate, 1)))
            self._tell_evictions(loaded, send)
            if self.cancelled.is_set():
                raise Cancelled

        logits = loaded.memory.read(ids, progress) if ids else None
        if receipt is not None and receipt.recomputed:
            receipt.recompute_s = round((time.perf_counter() - started) * receipt.recomputed / len(ids), 3)
        return logits

    def _write(
        self, loaded: Loaded, sampling: Sampling, sampler: Sampler, logits: Tensor, reply: Reply, send: Send
    ) -> None:
        stream = TextStream(loaded.tokenizer, sampling.stop)
        for token in self._tokens(loaded, sampling.max_tokens, sampler, logits, reply):
            reply.ids.append(token)
            reply.unread = True
            self._show(stream.feed(token), sampler, reply, send)
            if stream.stopped:
                reply.finish = "stop"
                break
        self._show(stream.finish(), sampler, reply, send)

    def _tokens(self, loaded: Loaded, limit: int, sampler: Sampler, logits: Tensor, reply: Reply) -> Iterator[int]:
        """Sampled tokens until the model, the caller or the limit ends the reply."""
        for count in range(limit):
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
            if count + 1 < limit:
                logits = loaded.memory.step(token)
                reply.unread = False
        reply.finish = "length"

    def _show(self, text: str, sampler: Sampler, reply: Reply, send: Send) -> None:
        if text:
            reply.text += text
            told = sampler.likelihoods.take() if sampler.likelihoods is not None else None
            send(Piece(text=text, logprobs=told))

    def _load(self, spec: ModelSpec, send: Send) -> Loaded:
        if self.loaded is not None and self.loaded.spec.model_copy(update={"mode": spec.mode}) == spec:
            self.loaded.spec, self.loaded.memory.mode = spec, spec.mode
            return self.loaded
        self._forget()
        self.embedder.make_way()
        self.loaded = load(spec, lambda done, total: send(Loading(model=spec.id, done_bytes=done, total_bytes=total)))
        return self.loaded

    def _serve(self, spec: ModelSpec) -> Served:
        """The server of a model, in place of whatever was loaded or asked before."""
        if self.served is None or self.served.spec.model_copy(update={"mode": spec.mode}) != spec:
            self._forget()
            self.embedder.make_way()
            self.served = Served(spec)
        return self.served

    def _forget(self) -> None:
        """Let go of the model and its memory; what waits to be written is written first."""
        if self.served is not None:
            self.served.episodes.close()
            self.served = None
        if self.loaded is not None:
            self.loaded.episodes.close()
        if self.loaded is not None and self.loaded.memory.spill is not None:
            self.loaded.memory.spill.close()
        self.loaded = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _split(self) -> MemorySplit:
        if self.served is not None:
            return self.served.split()
        return MemorySplit() if self.loaded is None else split_of(self.loaded)


def failed(error: AssistantError) -> Failed:
    """How a request ended that could not be answered; with the numbers where a text does not fit."""
    cause = error.__cause__
    too_long = TooLong(needed=cause.needed, limit=cause.limit) if isinstance(cause, TextTooLong) else None
    return Failed(message=str(error), exit_code=error.exit_code, too_long=too_long)


def _new_ids(request: Run, prompt: Prompt, reply: Reply) -> dict[int, list[int]]:
    """Ids to record: of turns read for the first time, and of the reply with the template's opening."""
    fresh = {turn.id: piece for turn, piece in zip(request.turns, prompt.pieces, strict=True) if turn.token_ids is None}
    if request.reply_id is not None and reply.ids:
        fresh[request.reply_id] = prompt.opening + reply.ids
    return fresh


def _observe(loaded: Loaded, request: Run, prompt: Prompt, reply: Reply) -> Future[None]:
    """Have what was said put into episodes, beside whatever comes next."""
    turns, sizes = request.turns, [len(piece) for piece in prompt.pieces]
    if request.reply_id is not None and reply.text:
        turns = [*turns, written_after(turns, request.reply_id, reply.text)]
        sizes.append(len(prompt.opening) + len(reply.ids))
        if (recalled := recalled_json(loaded.memory)) is not None:
            loaded.episodes.note_recalled(request.conversation, request.turns[-1].id, recalled)
    return loaded.episodes.observe(request.conversation, turns_of(turns, sizes))


def _usage(
    loaded: Loaded,
    found: Found,
    receipt: Receipt | None,
    prompt: int,
    reply: Reply,
    started: float,
    route: Route | None,
) -> Usage:
    recalled = loaded.memory.recalled()
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=found.reused,
        computed_tokens=prompt - found.reused,
        completion_tokens=len(reply.ids),
        resident_tokens=loaded.memory.resident,
        stored_tokens=len(loaded.memory.tokens),
        episode=None if route is None else str(route.episode),
        recalled_tokens=recalled.moved if recalled is not None else 0,
        ttft_s=round((reply.first_at or time.perf_counter()) - started, 4),
        decode_tok_s=_rate(reply),
        peak_bytes=loaded.gauge.peak(),
        budget_bytes=loaded.budget,
        mode=loaded.memory.served,
        recomputed_tokens=receipt.recomputed if receipt else 0,
        recompute_reason=receipt.reason if receipt else None,
        receipt=receipt,
    )


def _known(request: Run) -> int:
    """Tokens at the start of the conversation that were read before."""
    read = takewhile(lambda ids: ids is not None, (turn.token_ids for turn in request.turns))
    return sum(len(ids or ()) for ids in read)


def _rate(reply: Reply) -> float | None:
    """Tokens per second after the first one; None for fewer than two."""
    if reply.first_at is None or len(reply.ids) < 2:
        return None
    return round((len(reply.ids) - 1) / max(reply.last_at - reply.first_at, 1e-9), 2)
