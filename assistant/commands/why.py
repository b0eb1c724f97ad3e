"""`assistant why`: which episode a question went to, and what of the past its reply was given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from assistant.client import Client
from assistant.commands.map import In, latest
from assistant.commands.options import AsJson
from assistant.commands.terminal import without_controls
from assistant.errors import UsageError
from assistant.protocol import Episodes, NearSegment, Recalled, RecalledSpan, Route, SegmentTurn, Turn

app = typer.Typer()

Message = Annotated[str, typer.Argument(metavar="MESSAGE", help="Number of a turn (`ask --json` tells it), or last.")]

EXCERPT = 160
"""Characters of a turn that are shown."""

LEAST = 0.0005
"""Attention to a span that is worth showing to people; the first one always is."""


@app.command(epilog="Example: assistant why last -c trip")
def why(message: Message, conversation: In = None, as_json: AsJson = False) -> None:
    """Say what a reply was given: the question's episode, and the stored text that was recalled for it.

    A reply stands for the question before it.
    """
    name, question, found = asyncio.run(_ask(message, conversation))
    record = as_record(name, question, found)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    for line in told(question, found):
        print(without_controls(line))


def as_record(name: str, question: Turn, found: Episodes) -> dict[str, Any]:
    """Everything that is known, with the turns that each recalled span lies in."""
    route, turns = route_of(found, question.id), _turns(found)
    record: dict[str, Any] = {"conversation": name, "turn": question.id, "text": question.text, "route": None}
    if route is not None:
        record["route"] = route.model_dump(exclude={"recalled"})
        record["route"]["title"] = found.titles.get(route.episode or 0)
        for near, shown in zip(route.nearest, record["route"]["nearest"], strict=True):
            shown["turns"] = [turn.model_dump() for turn in _turns_of(near, found)]
        if route.recalled is not None:
            record["recalled"] = route.recalled.model_dump()
            for span, shown in zip(route.recalled.spans, record["recalled"]["spans"], strict=True):
                shown["turns"] = [turn.model_dump() for turn in sources(span, turns)]
    return {"recalled": None, "notice": found.notice} | record


def told(question: Turn, found: Episodes) -> Iterator[str]:
    """The same for people."""
    yield f"Turn {question.id} ({question.created[:16].replace('T', ' ')}): {_short(question.text)}"
    route = route_of(found, question.id)
    if route is None:
        yield "Nothing was noted of it: it was imported, is older than such notes, or they are lost."
        return
    yield _episode(route, found)
    if found.notice and route.episode is None:
        yield found.notice
    for near in route.nearest:
        yield from _near(near, found)
    yield ""
    if route.recalled is None or not route.recalled.spans:
        yield "Nothing was recalled: whatever the reply attended to was on the device, or was read exactly."
    if route.recalled is not None:
        yield from _recalled(route.recalled, _turns(found))


def route_of(found: Episodes, turn: int) -> Route | None:
    """How the question `turn` was routed the last time it was asked."""
    return next((route for route in reversed(found.routes) if route.turn == turn), None)


def sources(span: RecalledSpan, turns: Sequence[SegmentTurn]) -> list[SegmentTurn]:
    """The turns that a span of tokens lies in."""
    return [turn for turn in turns if turn.first_token < span.last and span.first < turn.last_token]


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


def _near(near: NearSegment, found: Episodes) -> Iterator[str]:
    if turns := _turns_of(near, found):
        yield ""
        yield f"Like the question: turns {turns[0].turn}-{turns[-1].turn}, similarity {near.similarity:.2f}"
        for turn in turns:
            yield f"  {_said_by(turn)}: {_short(_said(turn))}"


def _recalled(recalled: Recalled, turns: Sequence[SegmentTurn]) -> Iterator[str]:
    if recalled.missed is not None:
        most = f" (at most {recalled.bound:.1%})" if recalled.bound is not None else ""
        yield f"Of all attention, an estimated {recalled.missed:.1%}{most} was on stored tokens that stayed away."
    if recalled.exact_steps:
        yield f"{recalled.exact_steps} of {recalled.steps} steps attended to every stored token."
    for span in (span for span in recalled.spans if span is recalled.spans[0] or span.mass >= LEAST):
        yield ""
        yield f"Recalled: {span.tokens} entries of tokens {span.first}-{span.last - 1}, {span.mass:.1%} of attention"
        for turn in sources(span, turns):
            yield f"  {_said_by(turn)}: {_part(turn, span)}"


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


def _turns(found: Episodes) -> list[SegmentTurn]:
    return [turn for one in found.segments for turn in one.turns]


async def _ask(message: str, conversation: str | None) -> tuple[str, Turn, Episodes]:
    async with await Client.connect() as client:
        number = _number(message)
        if conversation is None:
            conversation = await latest(client) if number is None else (await client.owner(number)).name
        question = await _question(client, conversation, number)
        return conversation, question, await client.episodes(conversation)


def _number(message: str) -> int | None:
    if message == "last":
        return None
    if not message.isdecimal() or not 0 < int(message) < 2**62:
        raise UsageError(f"{message!r} is no turn: write its number, or last.")
    return int(message)


async def _question(client: Client, name: str, number: int | None) -> Turn:
    """The turn `number`, or the question before it when it is a reply; the last question for None."""
    turns = await client.turns(name, before=None if number is None else number + 1, limit=50)
    if number is not None and (not turns or turns[-1].id != number):
        raise UsageError(f"There is no turn {number} in {name!r}.")
    asked = [turn for turn in turns if turn.role == "user"]
    if number is not None and turns[-1].role != "assistant":
        asked = turns[-1:]
    if not asked:
        raise UsageError(f"Nothing was asked in {name!r} yet." if number is None else f"Turn {number} is no question.")
    return asked[-1]
