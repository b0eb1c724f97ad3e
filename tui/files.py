"""Files that a message takes along: `@notes.md` in the prompt, and the text of the file under the message."""

from __future__ import annotations

import re
from pathlib import Path

from assistant.errors import UsageError
from tui.figures import count, size

LARGEST = 1024 * 1024
"""Bytes of one attached file."""

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
    """The message with the text of every file it names after an @. What names no file stays as it is.

    Raises:
        UsageError: a file is a folder, too large, or no text.
    """
    names = dict.fromkeys(quoted or plain for quoted, plain in _TOKEN.findall(text))
    paths = {name: folder / Path(name).expanduser() for name in names}
    parts = [_attached(name, path) for name, path in paths.items() if _there(path)]
    return text + "".join(parts)


def fold(text: str) -> tuple[str, list[str]]:
    """The message without what was attached to it, and a line about each file."""
    lines = [f"{name}, {count(len(body))} characters" for name, body in _ATTACHED.findall(text)]
    return _ATTACHED.sub("", text), lines


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long is no file
        return False


def _attached(name: str, path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{name} is a folder; name a file in it, or write it without the @.")
    try:
        if (length := path.stat().st_size) > LARGEST:
            raise UsageError(f"{name} has {size(length)}; up to {size(LARGEST)} can be attached.")
        body = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not a text file, so it cannot be attached.") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    shown = name.replace('"', "'")
    return f'\n\n<file name="{shown}">\n{body.rstrip()}\n</file>'
