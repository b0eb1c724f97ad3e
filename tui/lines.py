"""The status lines as text: what is going on, the figures, the line under a reply. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.figures import bar, count, left, percent, plural, rate, seconds, share, short, size
from tui.state import View
from tui.text import clean

if TYPE_CHECKING:
    from assistant.protocol import Usage

Part = tuple[str, str]
"""A piece of text and its style."""
Segment = tuple[list[Part], ...]
"""The same fact, from its longest form to its shortest; an empty list leaves it out."""

SLOW_S = 2.0
_TIGHT = 0.9


def activity(view: View, now: float) -> str:
    """What is going on, in words, with numbers for whatever takes long."""
    passed = now - view.since
    match view.phase:
        case "loading":
            words = f"loading {view.model or 'the model'} {percent(view.done, view.total)}"
            return _with_time(f"{words} · {size(view.done)} of {size(view.total)}", view.seconds_left(now), passed)
        case "reading":
            words = f"reading {count(view.done)} of {count(view.total)} tokens"
            speed = f", {rate(view.read_tok_s)} tok/s" if view.read_tok_s else ""
            return _with_time(words + speed, view.seconds_left(now), passed)
        case "queued":
            return f"waiting, {plural(view.position, 'request')} ahead{_after(passed)}"
        case "starting":
            return f"starting the daemon{_after(passed)}"
        case "sending":
            return f"sending{_after(passed)}"
        case "accepted":
            return f"waiting for the model{_after(passed)}"
        case "stopping":
            return f"stopping{_after(passed)}"
        case "offline":
            return "not connected; your next message tries again"
    return view.phase


def progress(view: View) -> float | None:
    """How far the current long step is, when that is known."""
    return share(view.done, view.total) if view.phase in ("loading", "reading") and view.total else None


def figures(view: View, width: int) -> list[Part]:
    """Model, budget, tokens, time to first token and speed, in as many words as fit."""
    speed = f"{'≈ ' if view.counted else ''}{rate(view.tok_s)} tok/s"
    segments: list[Segment] = [
        ([(view.model or "-", "bold")], [((view.model or "-")[:14], "bold")]),
        _budget(view),
        _tokens(view),
        ([(f"TTFT {seconds(view.ttft_s)}", "")], []),
        ([(speed, "")], []),
    ]
    return fit(segments, width, shrink=(2, 1, 2, 1, 3, 0, 1, 2, 4))


def fit(segments: list[Segment], width: int, shrink: tuple[int, ...]) -> list[Part]:
    """Join the segments with dots; while they are too wide, take the next shorter form in the order of `shrink`."""
    forms = [0] * len(segments)
    for index in (*shrink, -1):
        parts = _join([segment[form] for segment, form in zip(segments, forms, strict=True)])
        if sum(len(text) for text, _ in parts) <= width or index < 0:
            break
        forms[index] = min(forms[index] + 1, len(segments[index]) - 1)
    return parts


def _join(chosen: list[list[Part]]) -> list[Part]:
    parts: list[Part] = []
    for segment in filter(None, chosen):
        parts += [*([(" · ", "dim")] if parts else []), *segment]
    return parts


def _budget(view: View) -> Segment:
    if view.used_bytes is None or not view.budget_bytes:
        return ([("budget -", "")],)
    part = share(view.used_bytes, view.budget_bytes)
    style = "$warning" if part > _TIGHT else "$success"
    used, budget = size(view.used_bytes), size(view.budget_bytes)
    tight = used.removesuffix(f" {budget.split()[-1]}")
    return (
        [*_drawn(part, 8, style), (f" {used} / {budget}", "")],
        [*_drawn(part, 6, style), (f" {tight}/{budget}", "")],
        [(f"{tight}/{budget}", "")],
        [(percent(view.used_bytes, view.budget_bytes), style)],
    )


def _drawn(part: float, cells: int, style: str) -> list[Part]:
    full, empty = bar(part, cells)
    return [("[", "dim"), (full, style), (empty, "dim"), ("]", "dim")]


def _tokens(view: View) -> Segment:
    if view.stored is None:
        return [("tokens -", "")], [("- tok", "")], []
    both = f"{count(view.resident)}/{count(view.stored)}"
    return (
        [(f"{both} tokens resident", "")],
        [(f"{both} tok", "")],
        [(f"{short(view.resident)}/{short(view.stored)} tok", "")],
        [],
    )


def report(usage: Usage) -> str:
    """The usage record as one line under the reply: nothing that was read or kept goes unsaid."""
    read = f"read {count(usage.computed_tokens)}"
    if usage.recomputed_tokens:
        reason = f": {clean(usage.recompute_reason)}" if usage.recompute_reason else ""
        read += f" ({count(usage.recomputed_tokens)} of them again{reason})"
    wrote = f"wrote {plural(usage.completion_tokens, 'token')}"
    parts = [f"reused {count(usage.cached_tokens)}, {read}, {wrote}", f"TTFT {seconds(usage.ttft_s)}"]
    if usage.decode_tok_s is not None:
        parts.append(f"{rate(usage.decode_tok_s)} tok/s")
    return " · ".join(parts)


def _with_time(words: str, remaining: float | None, passed: float) -> str:
    if remaining is None or passed < SLOW_S:
        return words
    return f"{words}, {left(remaining)}"


def _after(passed: float) -> str:
    return f" · {passed:.0f} s" if passed >= SLOW_S else ""
