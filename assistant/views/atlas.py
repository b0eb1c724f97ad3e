"""The episode map: a row per sitting, a cell per exchange, and where the KV of each lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal

from assistant.protocol import Episodes, SegmentTurn, Turn

State = Literal["verbatim", "compressed", "on disk", "text only"]

SHAPES: dict[State, str] = {"verbatim": "█", "compressed": "▒", "on disk": "░", "text only": "·"}
MEANING: dict[State, str] = {
    "verbatim": "all of it is on the device",
    "compressed": "a part is on the device, the rest on disk",
    "on disk": "fetched when it is needed",
    "text only": "in the history, read again when it is needed",
}

MARKS = "123456789abcdefghijklmnopqrstuvwxyz"
"""Of episodes."""

CHUNK = 64
"""Tokens that one figure of the residency is about."""

GAP = timedelta(minutes=30)
"""Longer silence ends a sitting."""

WHOLE = 0.995
"""From this share on nothing of a cell is missing on the device."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Turns that belong together. `share` of their tokens is on the device, None unless the conversation is there."""

    turns: tuple[int, ...]
    state: State
    tokens: int
    share: float | None
    episode: int | None
    said: tuple[tuple[str, str], ...]
    """Role and text of each turn."""

    @property
    def shape(self) -> str:
        return SHAPES[self.state]


@dataclass(frozen=True, slots=True)
class Sitting:
    """Cells without a long silence between them; `label` says when."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the map: a part of a sitting; only the first one of it has a label. `first` counts its cells."""

    label: str
    first: int
    cells: tuple[Cell, ...]


def atlas(turns: Sequence[Turn], found: Episodes, zone: tzinfo | None = None) -> list[Sitting]:
    """The whole conversation. Times are shown in `zone` (None: that of this machine)."""
    known = {turn.turn: (turn, one.episode) for one in found.segments for turn in one.turns}
    sittings, label, cells = list[Sitting](), "", list[Cell]()
    last: datetime | None = None
    for block in _blocks(turns):
        date = next((known[turn.id][0].date for turn in block if turn.id in known and turn.role == "transcript"), None)
        moment = _moment(block[0], zone)
        ends = (date or "") != label if date else last is None or moment - last > GAP
        if cells and ends:
            sittings.append(Sitting(label, tuple(cells)))
            cells = []
        if not cells:
            label = date or moment.strftime("%Y-%m-%d %H:%M")
        cells.append(_cell(block, known, found))
        last = _moment(block[-1], zone)
    return [*sittings, Sitting(label, tuple(cells))] if cells else sittings


def rows(sittings: Iterable[Sitting], width: int, words: str = "") -> list[Row]:
    """The lines of the map, at most `width` cells each; with `words` only the cells that say all of them."""
    wanted, lines, first = words.casefold().split(), list[Row](), 0
    for sitting in sittings:
        cells = [cell for cell in sitting.cells if not wanted or _says(cell, wanted)]
        for start in range(0, len(cells), max(1, width)):
            part = tuple(cells[start : start + max(1, width)])
            lines.append(Row("" if start else sitting.label, first, part))
            first += len(part)
    return lines


def episode_mark(episode: int | None) -> str:
    """One character for an episode; the same one again after 35 of them."""
    return "·" if episode is None else MARKS[(episode - 1) % len(MARKS)]


def states(sittings: Iterable[Sitting]) -> dict[State, int]:
    """Tokens in each state; of what was never read, turns count as none."""
    counts = Counter[State]()
    for sitting in sittings:
        for cell in sitting.cells:
            counts[cell.state] += cell.tokens
    return {state: counts[state] for state in SHAPES}


def _says(cell: Cell, words: list[str]) -> bool:
    text = "\n".join(text for _, text in cell.said).casefold()
    return all(word in text for word in words)


def _blocks(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """A question with its reply; of a transcript, two turns."""
    block = list[Turn]()
    for turn in turns:
        begins = turn.role != "assistant" and not (turn.role == "transcript" and len(block) == 1)
        if block and begins and block[-1].role != "system":
            yield block
            block = []
        block.append(turn)
    if block:
        yield block


def _cell(block: list[Turn], known: dict[int, tuple[SegmentTurn, int | None]], found: Episodes) -> Cell:
    spans = [known[turn.id] for turn in block if turn.id in known]
    tokens = sum(turn.last_token - turn.first_token for turn, _ in spans)
    share = None if found.residency is None or not tokens else share_of(found.residency, [turn for turn, _ in spans])
    return Cell(
        turns=tuple(turn.id for turn in block),
        state=_state(spans[-1][0].last_token if spans else None, share, found.stored),
        tokens=tokens,
        share=share,
        episode=next((episode for _, episode in spans if episode is not None), None),
        said=tuple((turn.role, turn.text) for turn in block),
    )


def _state(last: int | None, share: float | None, stored: int | None) -> State:
    if share is not None and share >= WHOLE:
        return "verbatim"
    if share:
        return "compressed"
    return "on disk" if last is not None and (stored is None or last <= stored) else "text only"


def share_of(residency: Sequence[float], turns: Iterable[SegmentTurn]) -> float:
    """The mean of what `residency` says of the tokens of these turns."""
    held = tokens = 0.0
    for turn in turns:
        for chunk in range(turn.first_token // CHUNK, -(-turn.last_token // CHUNK)):
            size = min(turn.last_token, (chunk + 1) * CHUNK) - max(turn.first_token, chunk * CHUNK)
            held += size * (residency[chunk] if chunk < len(residency) else 0.0)
            tokens += size
    return round(held / tokens, 4) if tokens else 0.0


def _moment(turn: Turn, zone: tzinfo | None) -> datetime:
    return datetime.fromisoformat(turn.created).astimezone(zone)
