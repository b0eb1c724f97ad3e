"""A budget before it is applied: what changes against the one in force, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assistant.reports import MemorySplit

Unit = Literal["bytes", "tokens", "share", "word"]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure now (None: no model is loaded) and then."""

    what: str
    now: float | str | None
    then: float | str
    unit: Unit


def compare(now: MemorySplit | None, then: MemorySplit, stored: int | None = None) -> list[Line]:
    """`stored`: tokens of the conversation at hand, None when there is none."""
    before = now if now is not None and now.budget else None

    def line(what: str, field: str, unit: Unit) -> Line:
        return Line(what, None if before is None else getattr(before, field), getattr(then, field), unit)

    lines = [line("weights", "weights", "bytes"), line("held as", "quant", "word"), line("KV", "kv", "bytes")]
    lines += [line("staging", "staging", "bytes"), line("activations", "activations", "bytes")]
    lines += [line("RAM tier", "ram", "bytes")] if then.ram else []
    lines += [line("process", "process", "bytes")]
    left = None if before is None else before.budget - spoken_for(before)
    lines += [Line("free", left, then.budget - spoken_for(then), "bytes")]
    lines += [line("entries at most", "capacity_tokens", "tokens")]
    lines += [line("tokens kept verbatim", "working_set_tokens", "tokens")]
    if stored:
        earlier = None if before is None else share(before, stored)
        lines.append(Line(f"of the {stored:,} stored here", earlier, share(then, stored), "share"))
    return lines


def consequence(now: MemorySplit, then: MemorySplit) -> str:
    """What using the other budget would mean, in a sentence."""
    if then.estimated:
        return "An estimate from the shape of the model: none is loaded."
    if now.budget == then.budget:
        return "This is the budget in force."
    if now.quant != then.quant:
        return (
            f"The next message loads the model again, with weights held as {then.quant}. KV stored with {now.quant} "
            "cannot be used with that: conversations are read again."
        )
    return "The next message loads the model again; stored KV stays."


def written(size: int) -> str:
    """Bytes as they are written on a command line: whole MiB where it is some."""
    return f"{size // 2**20}MiB" if size % 2**20 == 0 else str(size)


def spoken_for(split: MemorySplit) -> int:
    """Bytes that the plan gives away."""
    return split.weights + split.kv + split.staging + split.activations + split.ram + split.process


def share(split: MemorySplit, stored: int) -> float:
    """The part of `stored` tokens that the working set holds."""
    return min(1.0, split.working_set_tokens / stored) if stored > 0 else 1.0
