"""A conversation as a file: Markdown to read, JSON and JSON lines with states and usage records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum

from assistant.protocol import Conversation, Turn

_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System", "transcript": "Transcript", "tool": "Tool"}


class Form(StrEnum):
    """What an export can look like."""

    MD = "md"
    JSON = "json"
    JSONL = "jsonl"


def exported(form: Form, conversation: Conversation, turns: Sequence[Turn]) -> str:
    """The file's text, without a newline at its end."""
    rows = [turn.model_dump() for turn in turns]
    if form is Form.JSON:
        return json.dumps(conversation.model_dump() | {"turns": rows}, ensure_ascii=False)
    if form is Form.JSONL:
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return markdown(conversation, turns)


def markdown(conversation: Conversation, turns: Sequence[Turn]) -> str:
    """For people: who said what and when, and what of it is one of several versions."""
    heading = f"# {conversation.name}\n\n{conversation.created} to {conversation.updated}"
    said = [f"**{_SPEAKERS[turn.role]}**{_notes(turn)} · {turn.created}\n\n{turn.text.strip()}" for turn in turns]
    return "\n\n".join([heading, *said])


def _notes(turn: Turn) -> str:
    notes: list[str] = [] if turn.state == "done" else [turn.state]
    if turn.versions > 1:
        notes.append(f"version {turn.version} of {turn.versions}")
    if not turn.shown:
        notes.append("on another path")
    return f" ({', '.join(notes)})" if notes else ""
