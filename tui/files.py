"""What a message takes along: `@notes.md`, `@notes/` or `@https://…` in the prompt, the text under the message."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from assistant.errors import UsageError
from tui.figures import count, size

LARGEST = 1024 * 1024
"""Bytes of all files attached to one message."""

MOST = 1000
"""Files of one attached folder, hidden ones included."""

_HEAD = 4096
_ADDRESS = ("http://", "https://")

_TOKEN = re.compile(r'(?<!\S)@(?:"([^"]+)"|(\S+))')
_ATTACHED = re.compile(r'\n\n<file name="([^"\n]*)">\n(.*?)\n</file>', re.DOTALL)


def matching(typed: str, folder: Path) -> list[str]:
    """Names that begin with what was typed, folders with a slash; hidden ones only when a dot was typed."""
    head, _, tail = typed.rpartition("/")
    base = Path(f"{head}/" if typed.startswith("/") else head).expanduser()
    try:
        found = sorted((folder / base).iterdir(), key=lambda path: (not path.is_dir(), path.name.casefold()))
    except OSError:
        return []
    prefix = f"{head}/" if "/" in typed else ""
    return [
        f"{prefix}{path.name}{'/' if path.is_dir() else ''}"
        for path in found
        if path.name.casefold().startswith(tail.casefold()) and (tail.startswith(".") or not path.name.startswith("."))
    ]


def attach(text: str, folder: Path) -> str:
    """The message with the text of everything it names after an @: files, the text files of folders, web addresses.

    What names nothing that is there stays as it is. Waits for the network where an address is named.

    Raises:
        UsageError: all of it together is too large, something is no text, or cannot be read.
    """
    room, parts = LARGEST, list[str]()
    for name in dict.fromkeys(quoted or plain for quoted, plain in _TOKEN.findall(text)):
        for part in _named(name, folder, room):
            parts.append(part)
            room -= len(part.encode())
    return text + "".join(parts)


def addresses(text: str) -> list[str]:
    """The web addresses that a message names: these take their time."""
    return [plain for _, plain in _TOKEN.findall(text) if plain.startswith(_ADDRESS)]


def _named(name: str, folder: Path, room: int) -> Iterable[str]:
    if name.startswith(_ADDRESS):
        from tui.address import fetched

        return [_block(name, fetched(name, room))]
    path = folder / Path(name).expanduser()
    if not _there(path):
        return []
    return _of_folder(name, path, room) if path.is_dir() else [_attached(name, path, room)]


def fold(text: str) -> tuple[str, list[str]]:
    """The message without what was attached to it, and a line about each file."""
    lines = [f"{name}, {count(len(body))} characters" for name, body in _ATTACHED.findall(text)]
    return _ATTACHED.sub("", text), lines


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long is no file
        return False


def _of_folder(name: str, folder: Path, room: int) -> Iterator[str]:
    """What of a folder is text, in the order of its names; nothing hidden."""
    inside = list(islice((path.relative_to(folder) for path in folder.rglob("*") if path.is_file()), MOST + 1))
    if len(inside) > MOST:
        raise UsageError(f"{name} has more than {count(MOST)} files; name a folder in it.")
    shown = [path for path in sorted(inside) if not any(part.startswith(".") for part in path.parts)]
    texts = [path for path in shown if _is_text(folder / path)]
    if not texts:
        raise UsageError(f"There is no text file in {name}.")
    for path in texts:
        part = _attached(f"{name.rstrip('/')}/{path}", folder / path, room)
        room -= len(part.encode())
        yield part


def _is_text(path: Path) -> bool:
    """The file begins like UTF-8 text."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _attached(name: str, path: Path, room: int) -> str:
    try:
        if (length := path.stat().st_size) > room:
            left = "" if room == LARGEST else f", of which {size(room)} are left"
            raise UsageError(f"{name} has {size(length)}; up to {size(LARGEST)} can be attached{left}.")
        body = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not a text file, so it cannot be attached.") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    return _block(name, body)


def _block(name: str, body: str) -> str:
    shown = name.replace('"', "'")
    return f'\n\n<file name="{shown}">\n{body.rstrip()}\n</file>'
