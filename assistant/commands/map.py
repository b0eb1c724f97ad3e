"""`assistant map`: the topics of a conversation over time, its sittings, and where the KV of each lies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from assistant.client import Client
from assistant.commands.asked import In, asked, named
from assistant.commands.options import AsJson
from assistant.commands.progress import plain_console
from assistant.controls import without_controls
from assistant.protocol import Episodes, Segment, Turn
from assistant.views.atlas import MEANING, SHAPES, Sitting, atlas, episode_mark, rows, share_of, states

app = typer.Typer()

Lines = Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="The last N stretches; 0: all.")]

Sittings = Annotated[bool, typer.Option("--sittings", help="A row a sitting, a mark an exchange: where its KV lies.")]

STRIP = 76
"""Characters of the strip: episodes over time."""

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive segments of one episode; `resident` is the share of its tokens on the device."""

    episode: int | None
    segments: int
    first_turn: int
    last_turn: int
    first_token: int
    last_token: int
    dates: list[str]
    speakers: list[str]
    resident: float | None


@app.command("map", epilog="Example: assistant map -c trip --json")
def show_map(conversation: In = None, lines: Lines = 20, sittings: Sittings = False, as_json: AsJson = False) -> None:
    """Show a conversation's episodes over time, and how much of each is on the device; the rest is on disk.

    With --sittings, every exchange of every sitting instead: verbatim, compressed, on disk or text only.
    """
    name, found, turns = asked(lambda client: _ask(client, conversation))
    drawn = atlas(turns, found)
    if as_json:
        record = {"conversation": name, **as_record(found), "sittings": sittings_record(drawn), "states": states(drawn)}
        print(json.dumps(record, ensure_ascii=False))
        return
    console = plain_console()
    console.print(headline(name, found))
    if sittings:
        for line in sitting_lines(drawn):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    if found.notice:
        console.print(without_controls(found.notice))
    if any(one.episode is not None for one in found.segments):
        console.print(Text.assemble("\nover time  ", *strip([one.episode for one in found.segments])))
        console.print(_legend(found))
    every = list(stretches(found.segments, found.residency))
    shown = every[-lines:] if lines else every
    if shown:
        console.print()
        if len(shown) < len(every):
            console.print(f"({len(every) - len(shown)} earlier stretches; --lines 0 shows all)")
        console.print(_table(shown, found.titles))


def as_record(found: Episodes) -> dict[str, object]:
    """Episodes, stretches and the share of the whole conversation that is on the device."""
    every = list(stretches(found.segments, found.residency))
    counts = Counter(one.episode for one in found.segments)
    current = [episode for episode in sorted(found.titles) if counts[episode]]
    return {
        "episodes": [{"episode": n, "title": found.titles[n], "segments": counts[n]} for n in current],
        "stretches": [asdict(one) for one in every],
        "resident": _overall(every),
        "notice": found.notice,
    }


def sittings_record(drawn: Sequence[Sitting]) -> list[dict[str, object]]:
    """The sittings with their cells, without the texts."""
    return [
        {"label": one.label, "cells": [{k: v for k, v in asdict(cell).items() if k != "said"} for cell in one.cells]}
        for one in drawn
    ]


def sitting_lines(drawn: Sequence[Sitting]) -> Iterator[str]:
    """A row a sitting (long ones go on below), and what its marks say."""
    width = max((len(one.label) for one in drawn), default=0)
    for row in rows(drawn, STRIP - width - 2):
        yield without_controls(f"{row.label:<{width}}  {''.join(cell.shape for cell in row.cells)}")
    yield ""
    for state, tokens in states(drawn).items():
        yield f"{SHAPES[state]} {state}: {MEANING[state]} ({tokens:,} tokens)"


def headline(name: str, found: Episodes) -> str:
    """How much there is of what."""
    turns = [turn for one in found.segments for turn in one.turns]
    if not turns:
        return f"{without_controls(name)}: no turns were observed yet"
    episodes = len({one.episode for one in found.segments} - {None})
    counts = (_count(episodes, "episode"), _count(len(found.segments), "segment"), _count(len(turns), "turn"))
    share = _overall(list(stretches(found.segments, found.residency)))
    where = (
        "not on the device now, all of it on disk" if share is None else f"{share:.0%} on the device, the rest on disk"
    )
    return f"{without_controls(name)}: {', '.join(counts)}, {turns[-1].last_token:,} tokens\n{where}"


def strip(episodes: Sequence[int | None]) -> Iterator[Text]:
    """A character a segment; when there are more than `STRIP`, the most frequent one of each stretch of them."""
    columns = min(STRIP, len(episodes))
    for column in range(columns):
        part = episodes[column * len(episodes) // columns : (column + 1) * len(episodes) // columns]
        yield _mark(Counter(part).most_common(1)[0][0])


def stretches(segments: Sequence[Segment], residency: Sequence[float] | None) -> Iterator[Stretch]:
    """Consecutive segments of one episode as one."""
    for episode, group in groupby(segments, key=lambda one: one.episode):
        part = list(group)
        turns = [turn for one in part for turn in one.turns]
        yield Stretch(
            episode=episode,
            segments=len(part),
            first_turn=turns[0].turn,
            last_turn=turns[-1].turn,
            first_token=turns[0].first_token,
            last_token=turns[-1].last_token,
            dates=list(dict.fromkeys(turn.date for turn in turns if turn.date)),
            speakers=list(dict.fromkeys(turn.speaker for turn in turns)),
            resident=None if residency is None else share_of(residency, turns),
        )


def _overall(every: Sequence[Stretch]) -> float | None:
    sizes = [(one.resident, one.last_token - one.first_token) for one in every]
    if not every or any(share is None for share, _ in sizes):
        return None
    return round(sum((share or 0.0) * size for share, size in sizes) / max(1, sum(size for _, size in sizes)), 4)


def _mark(episode: int | None) -> Text:
    if episode is None:
        return Text("·", style="dim")
    return Text(episode_mark(episode), style=_COLOURS[(episode - 1) % len(_COLOURS)])


def _legend(found: Episodes) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", min_width=9)
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    counts = Counter(one.episode for one in found.segments)
    for episode, title in sorted(found.titles.items()):
        if counts[episode]:
            table.add_row(_mark(episode), without_controls(title), _count(counts[episode], "segment"))
    return table


def _table(shown: Sequence[Stretch], titles: dict[int, str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("date", overflow="ellipsis", no_wrap=True, max_width=24)
    table.add_column("turns", justify="right", no_wrap=True)
    table.add_column("episode", overflow="ellipsis", no_wrap=True)
    table.add_column("on device", justify="right", no_wrap=True)
    for one in shown:
        title = "not divided yet" if one.episode is None else without_controls(titles.get(one.episode, ""))
        turns = f"{one.first_turn}-{one.last_turn}" if one.first_turn != one.last_turn else str(one.first_turn)
        held = "" if one.resident is None else f"{one.resident:.0%}"
        table.add_row(without_controls(", ".join(one.dates[:1])), turns, _mark(one.episode) + Text(f"  {title}"), held)
    return table


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


async def _ask(client: Client, conversation: str | None) -> tuple[str, Episodes, list[Turn]]:
    name = await named(client, conversation)
    return name, await client.episodes(name), await client.all_turns(name)
