"""Why a reply was given what it was given: the question's episode, and the stored text that was fetched for it.

Attention is evidence of use, not proof of cause; a similarity is shown with the threshold beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from assistant.protocol import Episodes, NearSegment, Recalled, RecalledSpan, Route, SegmentTurn, Turn

EXCERPT = 160
"""Characters of a turn that are shown."""

LEAST = 0.0005
"""Attention to a span that is worth showing to people; the first one always is."""

EVIDENCE = "Attention says what the reply used, not what caused it."


@dataclass(frozen=True, slots=True)
class Passage:
    """A line: the question, a fact about it, a heading over quotes, or a quote of the turn `turn`."""

    kind: Literal["question", "fact", "heading", "quote"]
    text: str
    turn: int | None = None


def as_record(name: str, question: Turn, found: Episodes) -> dict[str, Any]:
    """Everything that is known, with the turns that each recalled span lies in."""
    route, turns = route_of(found, question.id), turns_in(found)
    record: dict[str, Any] = {"conversation": name, "turn": question.id, "text": question.text, "route": None}
    if route is not None:
        record["route"] = route.model_dump(exclude={"recalled"}) | {"threshold": found.threshold}
        record["route"]["title"] = found.titles.get(route.episode or 0)
        for near, shown in zip(route.nearest, record["route"]["nearest"], strict=True):
            shown["turns"] = [turn.model_dump() for turn in _turns_of(near, found)]
        if route.recalled is not None:
            record["recalled"] = route.recalled.model_dump()
            for span, shown in zip(route.recalled.spans, record["recalled"]["spans"], strict=True):
                shown["turns"] = [turn.model_dump() for turn in sources(span, turns)]
    return {"recalled": None, "notice": found.notice} | record


def told(question: Turn, found: Episodes) -> Iterator[Passage]:
    """The same for people, as paragraphs: each heading begins one."""
    yield Passage("question", f"Turn {question.id} ({_minute(question.created)}): {_short(question.text)}", question.id)
    route = route_of(found, question.id)
    if route is None:
        yield Passage("fact", "Nothing was noted of it: it was imported, is older than such notes, or they are lost.")
        return
    yield Passage("fact", _episode(route, found))
    if route.similarity is not None and found.threshold is not None:
        yield Passage("fact", f"Similarity is a cosine; below {found.threshold:.2f} no episode counts as near.")
    if found.notice and route.episode is None:
        yield Passage("fact", found.notice)
    for near in route.nearest:
        yield from _near(near, found)
    if route.recalled is None or not route.recalled.spans:
        text = "Nothing was recalled: whatever the reply attended to was on the device, or was read exactly."
        yield Passage("heading", text)
    if route.recalled is not None:
        yield from _recalled(route.recalled, turns_in(found))


def route_of(found: Episodes, turn: int) -> Route | None:
    """How the question `turn` was routed the last time it was asked."""
    return next((route for route in reversed(found.routes) if route.turn == turn), None)


def sources(span: RecalledSpan, turns: Sequence[SegmentTurn]) -> list[SegmentTurn]:
    """The turns that a span of tokens lies in."""
    return [turn for turn in turns if turn.first_token < span.last and span.first < turn.last_token]


def turns_in(found: Episodes) -> list[SegmentTurn]:
    """Every turn that was observed."""
    return [turn for one in found.segments for turn in one.turns]


def _episode(route: Route, found: Episodes) -> str:
    if route.episode is None or route.similarity is None:
        return f"It went to no episode{'.' if found.notice else ': there was none yet.'}"
    near = f"Episode {_named(route.episode, found)}, similarity {route.similarity:.2f}"
    if route.runner_up is not None and route.runner_up_similarity is not None:
        near += f"; next is {_named(route.runner_up, found)} with {route.runner_up_similarity:.2f}"
    before = next((one.episode for one in reversed(found.routes) if one.number < route.number and one.episode), None)
    moved = f" Switched from {_named(before, found)}." if route.switched and before else " Not switched."
    return near + "." + (moved if before else "") + (" No episode is near: it may be about something new." * route.new)


def _named(episode: int, found: Episodes) -> str:
    title = found.titles.get(episode)
    return f"{episode} ({title})" if title else str(episode)


def _turns_of(near: NearSegment, found: Episodes) -> list[SegmentTurn]:
    """The turns of a segment; none when it is no more."""
    return next((one.turns for one in found.segments if one.segment == near.segment), [])


def _near(near: NearSegment, found: Episodes) -> Iterator[Passage]:
    if turns := _turns_of(near, found):
        numbers = f"turns {turns[0].turn}-{turns[-1].turn}"
        yield Passage("heading", f"Like the question: {numbers}, similarity {near.similarity:.2f}")
        for turn in turns:
            yield Passage("quote", f"{_said_by(turn)}: {_short(_said(turn))}", turn.turn)


def _recalled(recalled: Recalled, turns: Sequence[SegmentTurn]) -> Iterator[Passage]:
    if recalled.missed is not None:
        most = f" (at most {recalled.bound:.1%})" if recalled.bound is not None else ""
        text = f"Of all attention, an estimated {recalled.missed:.1%}{most} was on stored tokens that stayed away."
        yield Passage("heading", text)
    if recalled.exact_steps:
        yield Passage("fact", f"{recalled.exact_steps} of {recalled.steps} steps attended to every stored token.")
    if recalled.spans:
        yield Passage("fact", EVIDENCE)
    for span in (span for span in recalled.spans if span is recalled.spans[0] or span.mass >= LEAST):
        where = f"{span.tokens} entries of tokens {span.first}-{span.last - 1}"
        yield Passage("heading", f"Recalled: {where}, {span.mass:.1%} of attention")
        for turn in sources(span, turns):
            yield Passage("quote", f"{_said_by(turn)}: {_part(turn, span)}", turn.turn)


def _part(turn: SegmentTurn, span: RecalledSpan) -> str:
    """The turn's text; of a long one, about the part where the span lies."""
    said = _said(turn)
    if len(said) <= EXCERPT:
        return _short(said)
    share = (max(span.first, turn.first_token) - turn.first_token) / max(1, turn.last_token - turn.first_token)
    start = min(int(share * len(said)), len(said) - EXCERPT)
    return ("…" * (start > 0)) + _short(said[start:])


def _said_by(turn: SegmentTurn) -> str:
    return f"turn {turn.turn}, {turn.speaker}" + (f", {turn.date}" if turn.date else "")


def _said(turn: SegmentTurn) -> str:
    return turn.text.partition(f"{turn.speaker}: ")[2] or turn.text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def _minute(stamp: str) -> str:
    return stamp[:16].replace("T", " ")
