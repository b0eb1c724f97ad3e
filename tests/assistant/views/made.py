"""Wire values for tests of what is drawn from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from assistant.protocol import Episodes, Role, Segment, SegmentTurn, Turn, Usage

START = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def turn(number: int, minutes: float = 0, role: Role | None = None, text: str = "", usage: Usage | None = None) -> Turn:
    """Turn `number`, said so many minutes after `START`; odd ones ask, even ones reply."""
    said = role or ("user" if number % 2 else "assistant")
    created = (START + timedelta(minutes=minutes)).isoformat()
    return Turn(id=number, role=said, text=text or f"text {number}", state="done", created=created, usage=usage)


def usage(**fields: Any) -> Usage:
    """A record in which nothing happened, but for `fields`."""
    whole: dict[str, Any] = {
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "computed_tokens": 80,
        "completion_tokens": 20,
        "resident_tokens": 100,
        "stored_tokens": 100,
        "episode": None,
        "recalled_tokens": 0,
        "ttft_s": 0.1,
        "decode_tok_s": 10.0,
        "peak_bytes": 1,
        "budget_bytes": 2,
        "mode": "recall",
    }
    return Usage(**whole | fields)


def episodes(count: int, tokens: int = 64, residency: list[float] | None = None, **fields: Any) -> Episodes:
    """`count` turns, numbered from 1, of `tokens` tokens each, four to a segment and an episode."""
    turns = [
        SegmentTurn(
            turn=at + 1,
            speaker="user",
            date=fields.get("date"),
            text=f"user: text {at + 1}",
            first_token=at * tokens,
            last_token=(at + 1) * tokens,
        )
        for at in range(count)
    ]
    parts = [turns[at : at + 4] for at in range(0, count, 4)]
    segments = [Segment(segment=at, turns=part, episode=at + 1, similarity=0.5) for at, part in enumerate(parts)]
    titles = {at + 1: f"topic {at + 1}" for at in range(len(parts))}
    return Episodes(segments=segments, titles=titles, residency=residency, stored=fields.get("stored"), threshold=0.25)
