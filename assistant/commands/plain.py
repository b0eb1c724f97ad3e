"""`assistant chat --plain`: the chat as lines of text, for pipes and screen readers. No escape codes, no redrawing."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress
from typing import Annotated, Any

import typer

from assistant.client import Client
from assistant.commands import options as opt
from assistant.commands.ask import is_known, system_for
from assistant.commands.spoken import Talk, obey
from assistant.commands.supply import supply_model
from assistant.commands.terminal import checked, checked_name, new_name, say
from assistant.commands.watch import Watch
from assistant.controls import without_controls
from assistant.errors import AssistantError, UsageError
from assistant.protocol import AskRequest, Done, Failed, Piece
from assistant.settings import Settings, load_settings

app = typer.Typer()

Plain = Annotated[bool, typer.Option("--plain", help="Lines of text; also when this is no terminal.")]


@app.command(epilog="Example: assistant chat --conversation trip --budget 900MiB")
@opt.with_flags(opt.ENGINE)
def chat(
    flags: dict[str, Any],
    conversation: opt.In = None,
    plain: Plain = False,  # noqa: ARG001  (without it `cli` would have taken the terminal app)
) -> None:
    """Talk to the model. On a terminal this is the full-screen app; with --plain one line in, one reply out.

    In plain mode /help lists the commands, /stop ends the running reply and /quit leaves; Ctrl+C leaves too and keeps
    what was written.
    """
    settings = load_settings(**flags)
    name = checked_name(new_name() if conversation is None else conversation)
    asyncio.run(_chat(settings, name))


async def _chat(settings: Settings, name: str) -> None:
    async with await Client.connect() as client:
        await supply_model(client, settings)
        say(f"conversation {name!r}; /help lists the commands, /stop ends a reply, /quit leaves")
        talk = Talk(client, name)
        lines = Lines(talk)
        while (line := await lines.next()) is not None:
            if not await obey(talk, line):
                system = system_for(settings, None, new=not await is_known(client, talk.name))
                await _reply(client, talk.name, settings, line, system)


async def _reply(client: Client, name: str, settings: Settings, line: str, system: str | None) -> None:
    """One line in, one reply out. What goes wrong with this turn is said, and the chat goes on."""
    request = AskRequest(text=line, sampling=settings.sampling(), engine=opt.engine_of(settings), system=system)
    try:
        with Watch() as watch:
            async for event in client.ask(name, request):
                watch.see(event)
                match event:
                    case Piece():
                        print(without_controls(event.text), end="", flush=True)
                    case Done():
                        print(flush=True)
                        if event.finish == "cancelled":
                            say("stopped; what was written is kept")
                    case Failed():
                        print(flush=True)
                        say(event.message)
    except UsageError as error:
        say(str(error))
    except asyncio.CancelledError:
        print(flush=True)
        say(f"stopped; what was written is kept in the conversation {name!r} as interrupted")
        raise


class Lines:
    """Standard input, line by line, on a thread of its own: /stop is heard while a reply is being written."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._stopping: set[asyncio.Task[bool]] = set()
        threading.Thread(target=self._read, daemon=True).start()

    async def next(self) -> str | None:
        """The next line to send; None at the end or after /quit."""
        while True:
            if sys.stdin.isatty():
                print("> ", end="", flush=True)
            line = await self._lines.get()
            if line is None or line.strip() == b"/quit":
                return None
            try:
                if line.strip():
                    return checked(line.decode())
            except UnicodeDecodeError as error:
                say(f"that line is not UTF-8 text (byte {error.start}); it was not sent")
            except AssistantError as error:
                say(str(error))

    def _read(self) -> None:
        """Not through sys.stdin: its lock, held by a blocked thread, would abort the interpreter's exit."""
        rest = b""
        with suppress(RuntimeError):  # the loop has ended
            while more := os.read(sys.stdin.fileno(), 65536):
                *lines, rest = (rest + more).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._take, line)
            self._loop.call_soon_threadsafe(self._take, rest)
            self._loop.call_soon_threadsafe(self._lines.put_nowait, None)

    def _take(self, line: bytes) -> None:
        if line.strip() != b"/stop":
            self._lines.put_nowait(line)
            return
        task = asyncio.create_task(self._talk.client.stop(self._talk.name))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
