"""What a conversation's episodes hold in each tier: its bytes there, divided by the tokens of each that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from assistant.protocol import Episodes, Segment
from assistant.reports import KvStatus
from assistant.views.atlas import share_of


@dataclass(frozen=True, slots=True)
class Held:
    """An episode (None: what belongs to none) with its tokens and its bytes by tier; together they are all."""

    episode: int | None
    title: str
    tokens: int
    device: int
    disk: int


def held(found: Episodes, kv: KvStatus, conversation: str) -> list[Held]:
    """Every episode of `conversation`, the largest first; nothing where nothing was observed."""
    tokens, device, disk = Counter[int | None](), Counter[int | None](), Counter[int | None]()
    for segment in found.segments:
        size = segment.turns[-1].last_token - segment.turns[0].first_token
        tokens[segment.episode] += size
        device[segment.episode] += round(size * share_of(found.residency or [], segment.turns))
        disk[segment.episode] += _stored(segment, found.stored)
    there = divided(device, kv.device.conversations.get(conversation, 0))
    stored = divided(disk, kv.disk.conversations.get(conversation, 0))
    return [
        Held(one, "" if one is None else found.titles.get(one, ""), size, there[one], stored[one])
        for one, size in tokens.most_common()
    ]


def divided(parts: Mapping[int | None, int], whole: int) -> dict[int | None, int]:
    """`whole` divided like `parts`, to the byte; the last part takes what rounding leaves."""
    total, given, names = sum(parts.values()), dict[int | None, int](), list(parts)
    for name in names:
        given[name] = whole * parts[name] // total if total else 0
    if total and names:
        given[max(names, key=lambda name: parts[name])] += whole - sum(given.values())
    return given


def _stored(segment: Segment, stored: int | None) -> int:
    """Tokens of a segment that are on disk."""
    first, last = segment.turns[0].first_token, segment.turns[-1].last_token
    return last - first if stored is None else max(0, min(last, stored) - first)
