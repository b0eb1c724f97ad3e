"""`assistant conversations`: list, rename and remove."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer
from rich.table import Table

from assistant.client import Client
from assistant.commands.options import AsJson
from assistant.commands.progress import plain_console
from assistant.commands.terminal import without_controls
from assistant.protocol import Conversation

app = typer.Typer(help="List, rename and remove conversations.", no_args_is_help=True)

Query = Annotated[str, typer.Argument(metavar="[TEXT]", help="Only those with this in their name or title.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The conversations to remove.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]


@app.command("list", epilog="Example: assistant conversations list --json")
def list_conversations(query: Query = "", as_json: AsJson = False) -> None:
    """List conversations, the latest first."""
    found = asyncio.run(_list(query))
    if as_json:
        print(json.dumps([conversation.model_dump() for conversation in found], ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "turns", "updated", "title"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(without_controls(one.name), str(one.turns), one.updated[:16], without_controls(one.title))
    plain_console().print(table)


@app.command(epilog='Example: assistant conversations rename "2026-11-21-093000-a1b2" trip')
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD")],
    new: Annotated[str, typer.Argument(metavar="NEW")],
    as_json: AsJson = False,
) -> None:
    """Give a conversation another name."""
    asyncio.run(_rename(old, new))
    print(json.dumps({"renamed": old, "name": new}) if as_json else f"{old} is now {new}.")


@app.command(epilog="Example: assistant conversations rm trip --yes")
def rm(names: Names, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove conversations with all their turns and stored KV: also from the index and free pages. For good."""
    if sys.stdin.isatty() and not yes and not as_json:
        typer.confirm(f"Remove {', '.join(names)} for good?", abort=True, err=True)
    asyncio.run(_remove(names))
    print(json.dumps({"removed": names}) if as_json else f"Removed: {', '.join(names)}")


async def _list(query: str) -> list[Conversation]:
    async with await Client.connect() as client:
        return await client.conversations(query)


async def _rename(old: str, new: str) -> None:
    async with await Client.connect() as client:
        await client.rename(old, new)


async def _remove(names: list[str]) -> None:
    async with await Client.connect() as client:
        for name in names:
            await client.purge(name)
