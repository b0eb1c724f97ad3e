"""`assistant import`: bring conversations from files, store them, and have them read into memory."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from assistant.client import Client, error_of
from assistant.commands import options as opt
from assistant.commands.supply import supply_model
from assistant.commands.terminal import checked_name, say
from assistant.commands.watch import Watch
from assistant.controls import without_controls
from assistant.dialogue import As, Dialogue, read_dialogues
from assistant.errors import AssistantError, UsageError
from assistant.protocol import Done, Failed, ImportRequest
from assistant.settings import Settings, load_settings

app = typer.Typer()

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Messages (role, content), an export of ChatGPT or ours, dialogues.")
]
To = Annotated[str | None, typer.Option("--conversation", "-c", metavar="NAME", help="Name; several get NAME-1, ...")]
Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N conversations of the file.")]
Form = Annotated[
    str | None, typer.Option("--as", metavar="FORM", help="transcript or roles; default: by the speakers.")
]
TextOnly = Annotated[bool, typer.Option("--text-only", help="Store the text; it is read with the next question.")]


@app.command("import", epilog="Example: assistant import talk.jsonl --conversation talk --budget 900MiB")
@opt.with_flags(opt.ENGINE)
def bring(
    flags: dict[str, Any],
    file: File,
    conversation: To = None,
    limit: Limit = None,
    form: Form = None,
    text_only: TextOnly = False,
    as_json: opt.AsJson = False,
) -> None:
    """Import conversations: their text is stored first, then read into memory under the budget."""
    try:
        settings = load_settings(**flags)
        named = _named(read_dialogues(file, _form(form), limit), conversation, file)
        results = asyncio.run(_store(named) if text_only else _import(settings, named))
    except AssistantError as error:
        if as_json:
            print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
        raise
    _report(results, as_json)


async def _import(settings: Settings, named: Sequence[tuple[str, Dialogue]]) -> list[dict[str, Any]]:
    async with await Client.connect() as client:
        await _refuse_known(client, [name for name, _ in named])
        await supply_model(client, settings)
        return [await _one(client, settings, name, dialogue) for name, dialogue in named]


async def _store(named: Sequence[tuple[str, Dialogue]]) -> list[dict[str, Any]]:
    async with await Client.connect() as client:
        await _refuse_known(client, [name for name, _ in named])
        stored = [await client.store(name, dialogue.turns) for name, dialogue in named]
    return [{"conversation": one.name, "turns": one.turns, "model": None, "usage": None} for one in stored]


async def _one(client: Client, settings: Settings, name: str, dialogue: Dialogue) -> dict[str, Any]:
    request = ImportRequest(turns=dialogue.turns, engine=opt.engine_of(settings))
    try:
        with Watch() as watch:
            async for event in client.import_turns(name, request):
                watch.see(event)
                match event:
                    case Failed():
                        raise error_of(event)
                    case Done(finish="cancelled"):
                        raise AssistantError(f"Reading {name!r} was stopped; its text is stored.")
                    case Done():
                        facts = {"conversation": name, "turns": len(dialogue.turns), "model": event.model}
                        return facts | {"usage": event.usage.model_dump()}
    except asyncio.CancelledError:
        say(f"stopped; the text of {name!r} is stored, what was not read yet is read with the next question")
        raise
    raise AssertionError("the client ends every stream with Done or Failed")


async def _refuse_known(client: Client, names: Sequence[str]) -> None:
    """An import makes conversations; it never adds to one, so that repeating it cannot double a history."""
    taken = {found.name: found.turns for found in await client.conversations(archived=True)}
    for name in names:
        if name in taken:
            raise UsageError(
                f"There is already a conversation {name!r} with {taken[name]} turns; nothing was stored. "
                f"Choose another with --conversation, or remove it: assistant conversations rm {name!r}"
            )


def _named(dialogues: list[Dialogue], name: str | None, file: Path) -> list[tuple[str, Dialogue]]:
    """Every dialogue that has turns, under the name given, its own id, or that of the file."""
    full = [dialogue for dialogue in dialogues if dialogue.turns]
    if name is not None:
        names = [name] if len(full) == 1 else [f"{name}-{number}" for number in range(1, len(full) + 1)]
    elif all(dialogue.id for dialogue in full) or len(full) == 1:
        names = _told_apart([dialogue.id or file.stem for dialogue in full])
    else:
        names = [_short(dialogue.id or file.stem, f"-{number}") for number, dialogue in enumerate(full, 1)]
    return [(checked_name(own), dialogue) for own, dialogue in zip(names, full, strict=True)]


def _told_apart(titles: Sequence[str]) -> list[str]:
    """Every title as a name; one that was there before gets the next number."""
    names = dict[str, None]()
    for title in titles:
        name, number = _short(title), 2
        while name in names:
            name, number = _short(title, f" ({number})"), number + 1
        names[name] = None
    return list(names)


def _short(text: str, end: str = "") -> str:
    return (re.sub(r"[\x00-\x1f\x7f]", "", text)[: 80 - len(end)] or "imported") + end


def _form(word: str | None) -> As | None:
    if word is not None and word not in get_args(As):
        raise UsageError(f"--as {word!r}: write transcript or roles.")
    return cast("As | None", word)


def _report(results: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        total = sum(result["turns"] for result in results)
        print(json.dumps({"conversations": results, "turns": total, "usage": results[-1]["usage"]}))
        return
    for result in results:
        what = "their text is stored" if (usage := result["usage"]) is None else _read(usage)
        print(f"{without_controls(result['conversation'])}: {result['turns']} turns, {what}")


def _read(usage: dict[str, Any]) -> str:
    return f"{usage['stored_tokens']:,} tokens stored, {usage['resident_tokens']:,} resident"
