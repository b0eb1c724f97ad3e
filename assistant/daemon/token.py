"""The token that lets a client in over TCP: 256 bits in a file of the user's own, made when it is first needed."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from assistant.errors import UsageError
from assistant.places import private
from memory.publish import publish

TOKEN_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
_ROTATE = "Run: assistant daemon token --rotate"


def token_of(path: Path) -> str:
    """The token in `path`, made there (0600 in a 0700 folder) when there is none.

    Raises:
        UsageError: it cannot be trusted or read; the text says what helps.
    """
    private(path.parent)
    if not os.path.lexists(path):
        _make(path)
    return read_token(path)


def read_token(path: Path) -> str:
    """The token in `path`.

    Raises:
        UsageError: it is missing, open to other users, or not a token.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode, owner = os.fstat(file.fileno()).st_mode, os.fstat(file.fileno()).st_uid
            text = file.read(1024).decode("ascii", "replace").strip() if stat.S_ISREG(mode) else ""
    except OSError as error:
        raise UsageError(f"The token {path} cannot be read ({error.strerror}). {_ROTATE}") from None
    if mode & 0o077 or owner != os.geteuid():
        raise UsageError(f"The token {path} was open to other users, who may know it now. {_ROTATE}")
    if not _FORM.fullmatch(text):
        raise UsageError(f"{path} holds no token. {_ROTATE}")
    return text


def rotate(path: Path) -> str:
    """A new token in place of the one in `path`, which lets nobody in from this moment."""
    private(path.parent)
    publish(path, [_fresh()], durable=True)
    return read_token(path)


def _make(path: Path) -> None:
    """Put a token where none is; of two processes that do so at once both find the same one."""
    mine = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    publish(mine, [_fresh()], durable=True)
    try:
        with suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink()


def _fresh() -> bytes:
    return f"{secrets.token_urlsafe(TOKEN_BYTES)}\n".encode()
