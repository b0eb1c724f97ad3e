"""`assistant ask`: one question, one answer, for people in a hurry and for scripts."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from assistant.client import Client, error_of
from assistant.commands import options as opt
from assistant.commands.supply import supply_model
from assistant.commands.terminal import checked_name, is_given, new_name, read_prompt, say, show
from assistant.commands.watch import Watch
from assistant.errors import AssistantError
from assistant.protocol import Accepted, AskRequest, Done, Failed, Piece
from assistant.settings import Settings, load_settings

app = typer.Typer()

_AGAIN = "\0"
"""Stands for the text of the question that is replaced; no prompt has it."""

Question = Annotated[str | None, typer.Argument(metavar="QUESTION", help="The question; also from standard input.")]

Replaces = Annotated[
    int | None,
    typer.Option(
        metavar="TURN", min=1, help="Put the question in the place of this earlier one; without one, answer it anew."
    ),
]


@app.command(epilog='Example: assistant ask -c trip "Where did I want to go?"   git diff | assistant ask "Explain."')
@opt.with_flags(opt.ENGINE | opt.DECODING)
def ask(
    flags: dict[str, Any],
    question: Question = None,
    conversation: opt.In = None,
    replaces: Replaces = None,
    as_json: opt.AsJson = False,
    system: opt.System = None,
    stop: opt.Stop = None,
) -> None:
    """Ask one question, in a conversation or in a new one; the answer goes to standard output."""
    try:
        settings = load_settings(system=system, **flags)
        name = None if conversation is None else checked_name(conversation)
        request = AskRequest(
            text=_AGAIN if replaces and not is_given(question) else read_prompt(question),
            sampling=opt.sampling_of(settings, stop),
            engine=opt.engine_of(settings),
            system=system,
            replaces=replaces,
        )
        asyncio.run(_ask(settings, name, request, as_json, system))
    except AssistantError as error:
        if as_json:
            print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
        raise


async def _ask(settings: Settings, name: str | None, request: AskRequest, as_json: bool, system: str | None) -> None:
    async with await Client.connect() as client:
        await supply_model(client, settings)
        name, new = await _place(client, name, request)
        request.system = system_for(settings, system, new=new)
        try:
            accepted, done = await _answer(client, name, request, aloud=not as_json)
        except asyncio.CancelledError:
            say(f"stopped; what was written is kept in the conversation {name!r} as interrupted")
            raise
    if as_json:
        print(json.dumps(_record(accepted, done)))
    if done.finish == "length":
        say(f"the reply was cut at {done.usage.completion_tokens} tokens (see --max-tokens)")
    if done.finish == "cancelled":
        raise AssistantError("The reply was stopped by another client; what was written is kept as interrupted.")


async def _place(client: Client, name: str | None, request: AskRequest) -> tuple[str, bool]:
    """The conversation to ask in, and whether it is a new one; what `request` replaces is looked up there."""
    if request.replaces is None:
        return (new_name(), True) if name is None else (name, await _is_new(client, name))
    name = name or (await client.owner(request.replaces)).name
    if request.text == _AGAIN:
        known = await client.siblings(name, request.replaces)
        request.text = next(turn.text for turn in known if turn.id == request.replaces)
    return name, False


async def _is_new(client: Client, name: str) -> bool:
    """Whether there is no such conversation yet; a mistyped name shows."""
    new = not await is_known(client, name)
    if new:
        say(f"new conversation {name!r}")
    return new


async def is_known(client: Client, name: str) -> bool:
    """Whether there is such a conversation."""
    return any(found.name == name for found in await client.conversations(name, archived=True))


def system_for(settings: Settings, flag: str | None, *, new: bool) -> str | None:
    """The system prompt to send: the flag always, one from the settings only for a new conversation."""
    return settings.system if flag is None and new else flag


async def _answer(client: Client, name: str, request: AskRequest, aloud: bool) -> tuple[Accepted, Done]:
    """Run the request; pieces go to standard output when `aloud`."""
    accepted: Accepted | None = None
    with Watch() as watch:
        async for event in client.ask(name, request):
            watch.see(event)
            match event:
                case Accepted():
                    accepted = event
                case Piece() if aloud:
                    show(event.text, end="")
                case Done():
                    if aloud and not event.text.endswith("\n"):
                        show("")
                    assert accepted is not None
                    return accepted, event
                case Failed():
                    raise error_of(event)
    raise AssertionError("the client ends every stream with Done or Failed")


def _record(accepted: Accepted, done: Done) -> dict[str, Any]:
    return {
        "conversation": done.conversation,
        "turn_id": accepted.turn_id,
        "reply_id": done.reply_id,
        "text": done.text,
        "finish": done.finish,
        "model": done.model,
        "usage": done.usage.model_dump(),
    }
