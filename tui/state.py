"""What the status lines show, as one value; and how the daemon's events change it. Pure: no Textual, no clock, no I/O.

The wire types are named for the type checker only: importing them costs more than the first paint may take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from assistant.protocol import Event, Turn, Usage
    from assistant.reports import DaemonStatus, MemorySplit

Phase = Literal[
    "starting", "ready", "sending", "accepted", "queued", "loading", "reading", "writing", "stopping", "offline"
]
BUSY: frozenset[Phase] = frozenset({"sending", "accepted", "queued", "loading", "reading", "writing", "stopping"})


@dataclass(frozen=True, slots=True)
class View:
    """Everything the status lines show. `None` is "not known yet" and is drawn as a dash."""

    phase: Phase = "starting"
    since: float = 0.0
    """When this phase began, on the caller's clock."""
    model: str | None = None
    used_bytes: int | None = None
    budget_bytes: int | None = None
    resident: int | None = None
    stored: int | None = None
    ttft_s: float | None = None
    tok_s: float | None = None
    counted: bool = False
    """`tok_s` was counted from pieces of text; the usage record will replace it."""
    done: int = 0
    total: int = 0
    read_tok_s: float | None = None
    position: int = 0
    pieces: int = 0
    first_piece: float = 0.0

    @property
    def busy(self) -> bool:
        return self.phase in BUSY

    def seconds_left(self, now: float) -> float | None:
        """Time left of what is being loaded or read, from its own measured rate."""
        if self.phase == "reading" and self.read_tok_s:
            return (self.total - self.done) / self.read_tok_s
        if self.phase == "loading" and self.done > 0 and now > self.since:
            return (self.total - self.done) * (now - self.since) / self.done
        return None


def enter(view: View, phase: Phase, now: float) -> View:
    """The view in another phase; the clock of a phase starts when it is entered, not when it is repeated."""
    return view if view.phase == phase else replace(view, phase=phase, since=now)


def sending(view: View, now: float) -> View:
    """A message leaves: what was measured of the last reply is no longer true of this one."""
    fresh = replace(view, ttft_s=None, tok_s=None, counted=False, pieces=0, done=0, total=0, read_tok_s=None)
    return enter(fresh, "sending", now)


def reduce(view: View, event: Event, now: float) -> View:
    """The view after one event of a reply."""
    if event.event == "accepted":
        return _working(view, "accepted", now)
    if event.event == "queued":
        return replace(enter(view, "queued", now), position=event.position)
    if event.event == "loading":
        entered = _working(view, "loading", now)
        return replace(entered, model=event.model, done=event.done_bytes, total=event.total_bytes)
    if event.event == "prefill":
        entered = _working(view, "reading", now)
        return replace(entered, done=event.done, total=event.total, read_tok_s=event.tok_s or None)
    if event.event == "piece":
        return _piece(view, now)
    if event.event == "done":
        return with_usage(replace(enter(view, "ready", now), model=event.model), event.usage)
    if event.event == "error":
        return enter(view, "ready", now)
    return view


def _working(view: View, phase: Phase, now: float) -> View:
    """Enter `phase`, unless the user has asked to stop: then that stays on the screen."""
    return view if view.phase == "stopping" else enter(view, phase, now)


def _piece(view: View, now: float) -> View:
    view = _working(view, "writing", now)
    if view.pieces == 0:
        return replace(view, pieces=1, first_piece=now)
    passed = now - view.first_piece
    speed = view.pieces / passed if passed > 0 else None
    return replace(view, pieces=view.pieces + 1, tok_s=speed, counted=speed is not None)


def with_usage(view: View, usage: Usage) -> View:
    """The usage record replaces whatever was counted on the way."""
    return replace(
        view,
        used_bytes=usage.peak_bytes,
        budget_bytes=usage.budget_bytes,
        resident=usage.resident_tokens,
        stored=usage.stored_tokens,
        ttft_s=usage.ttft_s,
        tok_s=usage.decode_tok_s,
        counted=False,
    )


def with_status(view: View, status: DaemonStatus) -> View:
    """The daemon's own report: model and memory. Its token counts are ours only while it works for us."""
    view = replace(view, model=status.model or view.model)
    memory = status.memory
    if memory.budget:
        view = replace(view, used_bytes=_used(memory), budget_bytes=memory.budget)
    if memory.stored_tokens and view.phase in ("reading", "writing"):
        resident = memory.resident_tokens  # a token is resident a moment before its text is stored
        view = replace(view, resident=resident, stored=max(resident, memory.stored_tokens))
    return view


def _used(memory: MemorySplit) -> int:
    return memory.peak or memory.weights + memory.kv + memory.staging + memory.activations + memory.process


def opened(view: View, turns: list[Turn]) -> View:
    """Another conversation is on the screen: its last usage record says how long it is, not what is resident now."""
    last = next((turn.usage for turn in reversed(turns) if turn.usage), None)
    stored = None if last is None else last.stored_tokens
    return replace(view, resident=None, stored=stored, ttft_s=None, tok_s=None, counted=False)
