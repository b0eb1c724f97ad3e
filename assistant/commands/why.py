"""`assistant why`: which episode a question went to, and what of the past its reply was given."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from assistant.client import Client
from assistant.commands.asked import In, asked, named
from assistant.commands.options import AsJson
from assistant.controls import without_controls
from assistant.errors import UsageError
from assistant.protocol import LARGEST, Episodes, Turn
from assistant.views.reason import as_record, told

app = typer.Typer()

Message = Annotated[str, typer.Argument(metavar="MESSAGE", help="Number of a turn (`ask --json` tells it), or last.")]


@app.command(epilog="Example: assistant why last -c trip")
def why(message: Message, conversation: In = None, as_json: AsJson = False) -> None:
    """Say what a reply was given: the question's episode, and the stored text that was recalled for it.

    A reply stands for the question before it.
    """
    name, question, found = asked(lambda client: _ask(client, message, conversation))
    record = as_record(name, question, found)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    for passage in told(question, found):
        if passage.kind == "heading":
            print()
        print(without_controls(f"  {passage.text}" if passage.kind == "quote" else passage.text))


async def _ask(client: Client, message: str, conversation: str | None) -> tuple[str, Turn, Episodes]:
    number = _number(message)
    if conversation is None:
        conversation = await named(client, None) if number is None else (await client.owner(number)).name
    question = await _question(client, conversation, number)
    return conversation, question, await client.episodes(conversation)


def _number(message: str) -> int | None:
    if message == "last":
        return None
    if not message.isdecimal() or not 0 < int(message) < LARGEST:
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
