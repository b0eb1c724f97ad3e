"""`assistant export`: a whole conversation as Markdown, JSON or JSON lines."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from assistant.client import Client
from assistant.commands.terminal import without_controls
from assistant.protocol import Conversation, Turn

app = typer.Typer()

PAGE = 500
_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System", "transcript": "Transcript"}


class Form(StrEnum):
    """What an export can look like."""

    MD = "md"
    JSON = "json"
    JSONL = "jsonl"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The conversation.")]
Format = Annotated[Form, typer.Option("--format", help="md to read, json or jsonl with states and usage records.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as --format json.")]


@app.command(epilog="Example: assistant export trip --format md > trip.md")
def export(name: Name, form: Format = Form.MD, as_json: AsJson = False) -> None:
    """Write every turn of a conversation to standard output."""
    conversation, turns = asyncio.run(_read(name))
    if as_json or form is Form.JSON:
        print(json.dumps(conversation.model_dump() | {"turns": [_row(turn) for turn in turns]}, ensure_ascii=False))
    elif form is Form.JSONL:
        for turn in turns:
            print(json.dumps(_row(turn), ensure_ascii=False))
    else:
        print(_markdown(conversation, turns))


async def _read(name: str) -> tuple[Conversation, list[Turn]]:
    async with await Client.connect() as client:
        turns = page = await client.turns(name, limit=PAGE)
        while len(page) == PAGE:
            page = await client.turns(name, before=page[0].id, limit=PAGE)
            turns = page + turns
        return await client.conversation(name), turns


def _row(turn: Turn) -> dict[str, Any]:
    return turn.model_dump()


def _markdown(conversation: Conversation, turns: list[Turn]) -> str:
    parts = [f"# {without_controls(conversation.name)}\n\n{conversation.created} to {conversation.updated}"]
    for turn in turns:
        note = "" if turn.state == "done" else f" ({turn.state})"
        parts.append(f"**{_SPEAKERS[turn.role]}**{note} · {turn.created}\n\n{without_controls(turn.text).strip()}")
    return "\n\n".join(parts)
