"""Publishing a whole file: it is there as written, or what was there before still is."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

TEMPORARY = ".tmp"
"""How the name of a file ends that is not published yet; what is left of one after a crash is swept."""


def publish(path: Path, parts: Sequence[bytes | memoryview], *, durable: bool) -> None:
    """Write `parts` to `path` through a temporary file in the same folder (mode 0600).

    `durable` makes it survive power loss: file and folder are synced. Without it a power loss may leave an old or an
    incomplete file, which a checksum must tell.

    Raises:
        OSError: it could not be written; `path` is as it was (or new, when only syncing the folder failed).
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        _write(temporary, parts, durable=durable)
        os.replace(temporary, path)  # noqa: PTH105 - tests make the Nth call of os fail
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    if durable:
        _sync_folder(path.parent)


def _write(path: Path, parts: Sequence[bytes | memoryview], *, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, parts)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write every byte of `parts`, however few the system takes at a time."""
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
