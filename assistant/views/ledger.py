"""The ledger: what left the working set, came back, was read again or resumed, reply by reply; and what was counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from assistant.protocol import Turn, Usage

Kind = Literal["left", "back", "recalled", "recomputed", "resumed"]

BYTES = "bytes written to disk"
"""The one counter that is no number of things."""

WORDS = {
    "rows_found": "stored rows found again",
    "misses": "look-ups that found nothing",
    "ram_rows_out": "rows read from RAM",
    "rows_read": "rows read from disk",
    "sections_read": "layers of rows read from disk",
    "rows_streamed": "rows streamed past the device",
    "rows_beside": "rows computed beside the device",
    "rows_sealed": "rows sealed",
    "rows_written": "rows written to disk",
    "bytes_written": BYTES,
    "tails_written": "open chunks written",
    "ram_rows_in": "rows put into RAM",
    "ram_rows_evicted": "rows that left RAM",
    "rows_evicted": "rows that left the disk",
    "rows_damaged": "rows found damaged",
    "write_errors": "errors while writing",
}
"""Counters in words, in the order in which they are shown; a row is 64 tokens over all layers."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened to tokens with the reply `turn`; `text` is for people."""

    turn: int
    created: str
    kind: Kind
    tokens: int
    text: str


def ledger(turns: Iterable[Turn]) -> list[Entry]:
    """Every entry of a conversation (or a part of it), in order. What the first reply shows is where it begins."""
    found, away = list[Entry](), 0
    for turn in turns:
        if turn.usage is not None:
            found += [Entry(turn.id, turn.created, *told) for told in _of(turn.usage, away)]
            away = _away(turn.usage)
    return found


def _of(usage: Usage, before: int) -> Iterator[tuple[Kind, int, str]]:
    receipt, moved = usage.receipt, _away(usage) - before
    if receipt is not None and receipt.source == "disk":
        yield "resumed", receipt.reused, f"{receipt.reused:,} tokens came from disk in {receipt.seconds:.2f} s"
    if usage.recomputed_tokens:
        cost = f" in {receipt.recompute_s:.1f} s" if receipt is not None and receipt.recompute_s is not None else ""
        why = f": {usage.recompute_reason}" if usage.recompute_reason else ""
        yield "recomputed", usage.recomputed_tokens, f"{usage.recomputed_tokens:,} tokens were read again{cost}{why}"
    if usage.recalled_tokens:
        yield "recalled", usage.recalled_tokens, f"{usage.recalled_tokens:,} entries were fetched for the reply"
    resident = f"{usage.resident_tokens:,} of {usage.stored_tokens:,} resident"
    if moved > 0:
        yield "left", moved, f"{moved:,} tokens left the working set ({resident})"
    elif moved < 0:
        yield "back", -moved, f"{-moved:,} tokens are in the working set again ({resident})"


def _away(usage: Usage) -> int:
    return max(0, usage.stored_tokens - usage.resident_tokens)


def counted(counters: Mapping[str, int]) -> list[tuple[str, int]]:
    """The counters in words; those without words under their own name, last."""
    known = [(WORDS[name], counters[name]) for name in WORDS if name in counters]
    return known + [(name.replace("_", " "), count) for name, count in counters.items() if name not in WORDS]


def hit_rate(counters: Mapping[str, int]) -> float | None:
    """The share of rows read that RAM had; None when none was read."""
    ram, disk = counters.get("ram_rows_out", 0), counters.get("rows_read", 0)
    return ram / (ram + disk) if ram + disk else None
