"""`assistant export`: a whole conversation as Markdown, JSON or JSON lines."""

from __future__ import annotations

from typing import Annotated

import typer

from assistant.client import Client
from assistant.commands.asked import asked
from assistant.controls import without_controls
from assistant.export import Form, exported
from assistant.protocol import Conversation, Turn

app = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="The conversation.")]
Format = Annotated[Form, typer.Option("--format", help="md to read, json or jsonl with states and usage records.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
Versions = Annotated[bool, typer.Option("--all-versions", help="Every version there is, in the order of writing.")]


@app.command(epilog="Example: assistant export trip --format md > trip.md")
def export(name: Name, form: Format = Form.MD, versions: Versions = False, as_json: AsJson = False) -> None:
    """Write every turn of a conversation to standard output: of the path that is shown, or all versions."""
    conversation, turns = asked(lambda client: _read(client, name, versions))
    form = Form.JSON if as_json else form
    text = exported(form, conversation, turns)
    if text:
        print(without_controls(text) if form is Form.MD else text)


async def _read(client: Client, name: str, versions: bool) -> tuple[Conversation, list[Turn]]:
    return await client.conversation(name), await client.all_turns(name, versions)
