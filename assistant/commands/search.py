"""`assistant search`: full text, over all conversations or in one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from assistant.commands.asked import asked
from assistant.commands.options import AsJson
from assistant.commands.terminal import say
from assistant.controls import without_controls

app = typer.Typer()

Words = Annotated[list[str], typer.Argument(metavar="WORDS...", help="All of them must occur in a turn.")]
Within = Annotated[str | None, typer.Option("--in", metavar="NAME", help="Only in this conversation.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=200, help="At most this many turns.")]


@app.command(epilog='Example: assistant search "lisbon dog" --json')
def search(words: Words, within: Within = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Find turns that contain all words (the last may be the beginning of one), the best first."""
    hits = asked(lambda client: client.search(" ".join(words), limit, within))
    if as_json:
        print(json.dumps([hit.model_dump() for hit in hits], ensure_ascii=False))
        return
    if not hits:
        say("no turn contains all of these words")
    for hit in hits:
        snippet = " ".join(without_controls(hit.snippet).split())
        where = f"{without_controls(hit.conversation)} · turn {hit.turn_id}"
        print(f"{where} · {hit.role} · {hit.created[:16]}: {snippet}")
