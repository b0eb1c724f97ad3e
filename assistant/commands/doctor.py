"""`assistant doctor`: is everything as it should be? One line a check, exit code 1 when something is not."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from sqlite_utils import Database

from assistant.catalog import load_catalog
from assistant.commands.asked import asked
from assistant.commands.diagnosis import daemon, worker
from assistant.commands.options import AsJson
from assistant.daemon.token import read_token
from assistant.errors import AssistantError, Exit
from assistant.machine import look
from assistant.places import Places, find_places
from assistant.served.upstream import Upstream
from assistant.settings import Settings, load_settings
from memory.budget import MIB, format_size, parse_size
from memory.database import check_sqlite, quick_check
from memory.errors import MemoryFailure
from memory.folder import KvFolder
from memory.minilm import NAME, encoder_bytes, find_minilm

app = typer.Typer()

LEAST_FREE = 64 * MIB
"""With less on the disk of the history or of stored KV, something will soon not be kept."""

Kv = Annotated[bool, typer.Option("--kv", help="Verify every stored row and the index.")]
Repair = Annotated[bool, typer.Option("--repair", help="With --kv: remove what is damaged; it is read again.")]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    check: str
    ok: bool
    says: str


@app.command(epilog="Example: assistant doctor --kv --repair")
def doctor(kv: Kv = False, repair: Repair = False, as_json: AsJson = False) -> None:
    """Look at folders, disk, SQLite, history, daemon, worker, token, model, budget and stored KV; with --kv at every
    byte of the latter. What is wrong comes with what helps.

    Exit code 1 when something is not as it should be.
    """
    places = find_places()
    found = list(findings(places))
    if kv or repair:
        found += _rows(repair)
    healthy = all(finding.ok for finding in found)
    if as_json:
        print(json.dumps({"ok": healthy, "findings": [asdict(finding) for finding in found]}))
    else:
        for finding in found:
            print(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check}: {finding.says}")
    if not healthy:
        raise typer.Exit(Exit.FAILED)


def findings(places: Places) -> Iterator[Finding]:
    """Everything that can be seen without starting a daemon."""
    settings, says = _settings(places)
    yield _look("SQLite", _sqlite)
    yield Finding("settings", settings is not None, says)
    yield _look("data folder", lambda: _folder(places.data))
    yield _look("state folder", lambda: _folder(places.state))
    yield _look("runtime folder", lambda: _folder(places.runtime))
    yield _look("disk", lambda: _disk(places))
    yield _look("history", lambda: _history(places))
    yield _look("daemon", lambda: daemon(places))
    yield _look("worker", lambda: worker(places))
    yield _look("token", lambda: _token(places))
    if settings is not None:
        yield _look("model", lambda: _model(places, settings))
        yield _look("budget", lambda: _budget(settings))
        yield _look("stored KV", lambda: _kv(places, settings))
    yield _look("episodes", _embeddings)


def _look(check: str, action: Callable[[], str]) -> Finding:
    try:
        return Finding(check, True, action())
    except (AssistantError, MemoryFailure, OSError) as error:
        return Finding(check, False, str(error))


def _sqlite() -> str:
    check_sqlite()
    return f"{Database(memory=True).execute('SELECT sqlite_version()').fetchone()[0]}, new enough to lose nothing"


def _settings(places: Places) -> tuple[Settings | None, str]:
    try:
        return load_settings(places=places), "readable, no unknown key"
    except AssistantError as error:
        return None, str(error)


def _folder(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist yet; it is made when it is needed"
    if path.stat().st_mode & 0o077:
        raise AssistantError(f"{path} is open to other users. Run: chmod 700 {path}")
    if path.stat().st_uid != os.geteuid():
        raise AssistantError(f"{path} belongs to another user. Run: sudo chown -R $USER {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        raise AssistantError(f"{path} cannot be written to. Run: chmod 700 {path}")
    return f"{path}, private"


def _disk(places: Places) -> str:
    """The history and what is sealed may lie on two disks."""
    free = min(shutil.disk_usage(_there(path)).free for path in (places.data, places.state))
    if free < LEAST_FREE:
        raise AssistantError(
            f"The disk is full ({format_size(free)} free): messages cannot be kept. Free some space; stored KV can be "
            f"read again, so while no daemon runs this helps too: rm -r {places.kv}"
        )
    return f"{format_size(free)} free"


def _token(places: Places) -> str:
    if not os.path.lexists(places.token):
        return "none yet; it is made for --listen"
    read_token(places.token)
    return f"{places.token}, private"


def _history(places: Places) -> str:
    if not places.history.exists():
        return "none yet"
    found = quick_check(places.history)
    if found != "ok":
        raise AssistantError(f"{places.history} is damaged: {found}. Put a backup in its place.")
    files = places.history, places.history.with_suffix(".db-wal")
    size = sum(path.stat().st_size for path in files if path.exists())
    return f"{places.history}, {format_size(size)}, sound"


def _model(places: Places, settings: Settings) -> str:
    catalog = load_catalog(places)
    entry = catalog.find(settings.model)
    if entry.server is not None:
        found = asyncio.run(Upstream(entry.server).model())
        return f"{entry.id} is {found.id} on {entry.server.url}, which answers"
    return f"{entry.id} in {catalog.require(entry, places)}"


def _budget(settings: Settings) -> str:
    machine = look()
    if settings.budget is not None:
        return f"{settings.budget}, as set"
    return f"{format_size(machine.budget)}, chosen for this {machine.device}"


def _kv(places: Places, settings: Settings) -> str:
    if places.kv.exists():
        _folder(places.kv)
    used = KvFolder.walk(places.kv).total
    if not settings.spill:
        return f"{format_size(used)}; nothing is added (spill is off), so a restart reads conversations again"
    free = shutil.disk_usage(_there(places.kv)).free
    return f"{format_size(used)} of {format_size(parse_size(settings.disk))}, {format_size(free)} free on this disk"


def _embeddings() -> str:
    size = encoder_bytes(find_minilm())
    return f"{NAME} is installed; it takes {format_size(size)} while conversations are divided into episodes"


def _there(path: Path) -> Path:
    """`path`, or the first folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _rows(repair: bool) -> list[Finding]:
    """Every stored row, verified by the daemon, which is started for it."""
    try:
        report = asked(lambda client: client.check(repair=repair))
    except AssistantError as error:
        return [Finding("stored rows", False, str(error))]
    verified = f"{report.rows_ok:,} sound in {report.files:,} files, {format_size(report.bytes)}"
    then = "Repaired; what is missing is read again." if report.repaired else "Run: assistant doctor --kv --repair"
    problems = [Finding("stored rows", report.repaired, f"{problem} {then}") for problem in report.problems]
    return [Finding("stored rows", True, verified), *problems]
