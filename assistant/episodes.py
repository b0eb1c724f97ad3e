"""Episodes as the wire tells them, from the database that the worker writes. No torch in here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from assistant.protocol import Episodes, Recalled, Route, Segment, SegmentTurn
from memory.episode_reader import EpisodeReader
from memory.episode_schema import EPISODES_FILE
from memory.episode_view import NEW_QUESTION, SegmentView
from memory.episode_view import Route as Routed
from memory.stored import stored_tokens


def look_up(folder: Path, conversation: str) -> Episodes:
    """What is stored of a conversation's episodes; nothing when nothing is.

    Raises:
        OSError: the database cannot be read.
    """
    if not (folder / EPISODES_FILE).exists():
        return Episodes()
    reader = EpisodeReader.look(folder / EPISODES_FILE)
    try:
        told = wired(reader.segments(conversation), reader.titles(conversation), reader.routes(conversation))
    finally:
        reader.close()
    told.stored = stored_tokens(folder, conversation)
    return told


def wired(segments: Sequence[SegmentView], titles: Mapping[int, str], routes: Sequence[Routed]) -> Episodes:
    """The same as wire types."""
    return Episodes(
        segments=[_segment(one) for one in segments],
        titles=dict(titles),
        routes=[_route(one) for one in routes],
        threshold=NEW_QUESTION,
    )


def _segment(one: SegmentView) -> Segment:
    turns = [SegmentTurn(**asdict(turn)) for turn in one.turns]
    return Segment(segment=one.segment, turns=turns, episode=one.episode, similarity=one.similarity)


def _route(one: Routed) -> Route:
    recalled = None if one.recalled is None else Recalled.model_validate_json(one.recalled)
    return Route(**asdict(one) | {"recalled": recalled, "nearest": json.loads(one.nearest or "[]")})
