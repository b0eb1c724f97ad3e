"""`assistant daemon`: start, stop, look at and be the process behind every front end."""

from __future__ import annotations

import asyncio
import json
import os
from enum import StrEnum
from typing import Annotated, Any

import typer

from assistant.address import parse_address
from assistant.commands.options import AsJson
from assistant.commands.terminal import say
from assistant.daemon import spawn
from assistant.daemon import token as tokens
from assistant.daemon.probe import holder, listener
from assistant.errors import DaemonError, Exit, ModelError
from assistant.places import Places, find_places, moved
from assistant.settings import Settings, load_settings
from memory.budget import format_size

app = typer.Typer(help="Start, stop and look at the daemon.", no_args_is_help=True)

Listen = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS:PORT", help="Listen on TCP too, on loopback, for clients that send the token."),
]
Rotate = Annotated[bool, typer.Option("--rotate", help="Make a new one; the old one lets nobody in any more.")]
AsPath = Annotated[bool, typer.Option("--path", help="Print where it lies instead.")]
Detached = Annotated[bool, typer.Option("--detached", hidden=True)]

STOP_S = 15.0
"""How long `stop` waits beyond the daemon's own time to drain."""


class Kind(StrEnum):
    """What a service manager reads."""

    SYSTEMD = "systemd"
    SOCKET = "systemd-socket"
    LAUNCHD = "launchd"


Which = Annotated[
    Kind, typer.Argument(metavar="KIND", help="systemd: its service; systemd-socket: its socket; launchd: its agent.")
]


@app.command(epilog="Example: assistant daemon start --listen 127.0.0.1:8123")
def start(listen: Listen = None, as_json: AsJson = False) -> None:
    """Start the daemon in the background and wait until it answers. Does nothing when one runs.

    With --listen the default model is fetched where it is missing: the clients of a port cannot do that.
    """
    places = find_places()
    settings = load_settings(places=places, listen=listen)
    running = holder(places.lock)
    pid = spawn.start(places, listen)
    if running is not None and listen is not None:
        _check_listens(listen)
    _open(settings, listen)
    _report(as_json, {"running": True, "pid": pid, "started": running is None}, _started(pid, running))


@app.command(epilog="Example: assistant daemon stop")
def stop(as_json: AsJson = False) -> None:
    """End the daemon: the running reply is stopped and kept, then it leaves. Does nothing when none runs."""
    pid = _stop(find_places())
    sentence = "No daemon was running." if pid is None else f"The daemon (pid {pid}) has ended."
    _report(as_json, {"running": False, "pid": pid, "stopped": pid is not None}, sentence)


@app.command(epilog="Example: assistant daemon restart")
def restart(listen: Listen = None, as_json: AsJson = False) -> None:
    """Stop the daemon when one runs, then start one (also of another version, also with changed settings).

    It listens where --listen or the setting says, not where the old one did.
    """
    places = find_places()
    settings = load_settings(places=places, listen=listen)
    old = _stop(places)
    pid = spawn.start(places, listen)
    _open(settings, listen)
    _report(as_json, {"running": True, "pid": pid, "started": True, "stopped_pid": old}, _started(pid, None))


@app.command(epilog="Example: assistant daemon status --json")
def status(as_json: AsJson = False) -> None:
    """Show the daemon, its worker and its memory. Exit code 7 when none runs."""
    facts = _status()
    if facts is None:
        _report(as_json, {"running": False}, "No daemon is running. Start one with: assistant daemon start")
        raise typer.Exit(Exit.DAEMON)
    lines = [_line(name, value) for name, value in facts.items() if not isinstance(value, dict)]
    memory = ["memory " + _line(name, _sized(name, value)) for name, value in facts["memory"].items()]
    _report(as_json, facts, "\n".join(lines + memory))


@app.command(epilog="Example: assistant daemon unload")
def unload(as_json: AsJson = False) -> None:
    """Free the memory of the model: its worker ends, what it held is on disk and comes back with the next question."""
    from assistant.commands.asked import asked

    done = asked(lambda client: client.unload(), start=False)
    sentence = "No model is loaded any more."
    if not done.unloaded:
        sentence = f"The model goes as soon as what is on its way has ended (requests: {done.pending})."
    _report(as_json, done.model_dump(), sentence)


@app.command(epilog="Example: assistant daemon service systemd > ~/.config/systemd/user/assistant.service")
def service(kind: Which) -> None:
    """Print what a service manager needs to run the daemon: two units for systemd, or a property list for launchd."""
    from assistant.commands import units

    places = find_places()
    stop_s = load_settings(places=places).drain_s + STOP_S
    match kind:
        case Kind.SYSTEMD:
            print(units.systemd_service(moved(), stop_s))
        case Kind.SOCKET:
            print(units.systemd_socket(places))
        case Kind.LAUNCHD:
            print(units.launchd(places, moved(), stop_s))


@app.command(epilog="Example: assistant daemon run")
def run(listen: Listen = None, detached: Detached = False) -> None:
    """Be the daemon, in the foreground: for a service manager or to look at it. Ctrl+C ends it."""
    from assistant.daemon.lifecycle import run as serve

    if detached:  # serves every folder, so it reads no project file and keeps no folder busy
        os.chdir("/")
    places = find_places()
    raise typer.Exit(serve(places, load_settings(places=places, listen=listen)))


@app.command(epilog='Example: curl -H "Authorization: Bearer $(assistant daemon token)" http://127.0.0.1:8123/health')
def token(rotate: Rotate = False, path: AsPath = False, as_json: AsJson = False) -> None:
    """Print the token that lets clients in over TCP (--listen), made at first use. Whoever has it reads everything."""
    place = find_places().token
    text = tokens.rotate(place) if rotate else tokens.token_of(place)
    _report(as_json, {"token": text, "path": str(place)}, str(place) if path else text)


def _stop(places: Places) -> int | None:
    return spawn.stop(places, load_settings(places=places).drain_s + STOP_S)


def _open(settings: Settings, listen: str | None) -> None:
    """Make a port that was asked for useful."""
    if listen is not None:
        asyncio.run(_supply(settings))


async def _supply(settings: Settings) -> None:
    """Fetch the model, or say why its clients will be refused."""
    from assistant.client import Client
    from assistant.commands.supply import supply_model

    async with await Client.connect() as client:
        try:
            await supply_model(client, settings)
        except ModelError as error:
            say(str(error))


def _check_listens(listen: str) -> None:
    """That the daemon that runs already listens there."""
    facts = _status() or {}
    if facts.get("listen") != str(parse_address(listen)):
        raise DaemonError(
            f"The daemon runs already, with pid {facts.get('pid')}, and does not listen at {listen}. "
            f"Run: assistant daemon restart --listen {listen}"
        )


def _status() -> dict[str, Any] | None:
    from assistant.commands.asked import asked

    if listener(find_places().socket) is None:
        return None
    return {"running": True} | asked(lambda client: client.status(), start=False).model_dump()


def _started(pid: int, running: int | None) -> str:
    return f"The daemon runs with pid {pid}." if running is None else f"The daemon runs already, with pid {pid}."


def _line(name: str, value: object) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return f"{name.replace('_', ' ')}: {'-' if value is None else value}"


def _sized(name: str, value: object) -> object:
    """Bytes with their unit; tokens and words are what they are."""
    if isinstance(value, bool) or name.endswith("_tokens"):
        return value
    return format_size(value) if isinstance(value, int) else value


def _report(as_json: bool, facts: dict[str, Any], sentence: str) -> None:
    print(json.dumps(facts) if as_json else sentence)
