"""`assistant conversations`: list, rename, pin, archive, fork, put away and bring back, remove for good."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer
from rich.table import Table

from assistant.commands.asked import asked
from assistant.commands.options import AsJson
from assistant.commands.progress import plain_console
from assistant.controls import without_controls
from assistant.protocol import Conversation, ConversationChange

app = typer.Typer(help="List, name, sort, fork, put away and remove conversations.", no_args_is_help=True)

Query = Annotated[str, typer.Argument(metavar="[TEXT]", help="Only those with this in their name or title.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The conversation.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The conversations.")]
Title = Annotated[str, typer.Argument(metavar="TITLE", help="What lists show beside the name.")]
New = Annotated[str | None, typer.Option("--as", metavar="NEW", help="The name; without it, one is found.")]
TurnId = Annotated[int | None, typer.Option("--turn", metavar="ID", min=1, help="The last turn to take along.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]
Archived = Annotated[bool, typer.Option("--archived", help="Archived ones too.")]
PutAway = Annotated[bool, typer.Option("--removed", help="Those that were put away and can be restored.")]
Later = Annotated[bool, typer.Option("--later", help="Only put away: can be restored for 30 days.")]


@app.command("list", epilog="Example: assistant conversations list --json")
def list_conversations(
    query: Query = "", archived: Archived = False, removed: PutAway = False, as_json: AsJson = False
) -> None:
    """List conversations: pinned ones first, then the latest."""
    found = asked(lambda client: client.conversations(query, archived, removed))
    if as_json:
        print(json.dumps([conversation.model_dump() for conversation in found], ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "turns", "updated", "state", "title"):
        table.add_column(column, overflow="fold")
    for one in found:
        row = (one.name, str(one.turns), one.updated[:16], _state(one), one.title)
        table.add_row(*(without_controls(cell) for cell in row))
    plain_console().print(table)


@app.command(epilog='Example: assistant conversations rename "2026-11-21-093000-a1b2" trip')
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name that it has.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name that it gets.")],
    as_json: AsJson = False,
) -> None:
    """Give a conversation another name."""
    asked(lambda client: client.rename(old, new))
    _tell({"renamed": old, "name": new}, f"{old} is now {new}.", as_json)


@app.command(epilog='Example: assistant conversations title trip "Three days in Lisbon"')
def title(name: Name, text: Title, as_json: AsJson = False) -> None:
    """Give a conversation a title; it keeps it from then on."""
    _change([name], ConversationChange(title=text), "titled", as_json)


@app.command(epilog="Example: assistant conversations pin trip")
def pin(names: Names, as_json: AsJson = False) -> None:
    """Keep conversations at the top of the list."""
    _change(names, ConversationChange(pinned=True), "pinned", as_json)


@app.command(epilog="Example: assistant conversations unpin trip")
def unpin(names: Names, as_json: AsJson = False) -> None:
    """Let conversations stand where their date puts them."""
    _change(names, ConversationChange(pinned=False), "unpinned", as_json)


@app.command(epilog="Example: assistant conversations archive trip")
def archive(names: Names, as_json: AsJson = False) -> None:
    """Take conversations out of the list; search still finds them, and they go on when they are named."""
    _change(names, ConversationChange(archived=True), "archived", as_json)


@app.command(epilog="Example: assistant conversations unarchive trip")
def unarchive(names: Names, as_json: AsJson = False) -> None:
    """Bring conversations back into the list."""
    _change(names, ConversationChange(archived=False), "unarchived", as_json)


@app.command(epilog="Example: assistant conversations fork trip --turn 12 --as trip-by-train")
def fork(name: Name, turn: TurnId = None, new: New = None, as_json: AsJson = False) -> None:
    """Begin a conversation with the turns of another one: all of them, or those up to a turn."""
    made = asked(lambda client: client.fork(name, turn, new))
    print(
        json.dumps(made.model_dump(), ensure_ascii=False) if as_json else f"{made.name}: {made.turns} turns of {name}"
    )


@app.command(epilog="Example: assistant conversations rm trip --yes")
def rm(names: Names, yes: Yes = False, later: Later = False, as_json: AsJson = False) -> None:
    """Remove conversations with all their turns and stored KV: also from the index and free pages. For good."""
    if later:
        asked(lambda client: _each(client.remove, names))
        known = "; to bring one back: assistant conversations restore NAME"
        _tell({"put_away": names}, f"Put away: {', '.join(names)}{known}", as_json)
        return
    _confirm(f"Remove {', '.join(names)} for good?", yes or as_json)
    asked(lambda client: _each(client.purge, names))
    _tell({"removed": names}, f"Removed: {', '.join(names)}", as_json)


@app.command(epilog="Example: assistant conversations restore trip --as old-trip")
def restore(name: Name, new: New = None, as_json: AsJson = False) -> None:
    """Bring back a conversation that was put away, under the name that it had or another one."""
    back = asked(lambda client: client.restore(name, new))
    print(json.dumps(back.model_dump(), ensure_ascii=False) if as_json else f"{back.name} is back: {back.turns} turns")


@app.command(epilog="Example: assistant conversations purge --yes")
def purge(yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove for good what was put away, without waiting for its 30 days to pass."""
    _confirm("Remove everything that was put away for good?", yes or as_json)
    gone = asked(lambda client: client.purge())
    _tell({"removed": gone}, f"Removed: {', '.join(gone)}" if gone else "Nothing was put away.", as_json)


def _change(names: list[str], change: ConversationChange, done: str, as_json: bool) -> None:
    asked(lambda client: _each(lambda name: client.change(name, change), names))
    _tell({done: names}, f"{done.capitalize()}: {', '.join(names)}", as_json)


async def _each(action: Callable[[str], Coroutine[Any, Any, object]], names: list[str]) -> None:
    for name in names:
        await action(name)


def _confirm(question: str, yes: bool) -> None:
    if sys.stdin.isatty() and not yes:
        typer.confirm(question, abort=True, err=True)


def _tell(record: dict[str, Any], sentence: str, as_json: bool) -> None:
    print(json.dumps(record, ensure_ascii=False) if as_json else without_controls(sentence))


def _state(one: Conversation) -> str:
    """Everything about a conversation that is not in the other columns."""
    facts = ["pinned"] * one.pinned + ["archived"] * one.archived
    facts += [f"put away {one.removed[:10]}"] if one.removed else []
    return ", ".join([*facts, *([f"fork of {one.origin}"] if one.origin else [])])
