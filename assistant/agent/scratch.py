"""Folders for tools that run, and the removal of those that a killed agent left behind.

A folder is locked while its agent lives; the operating system gives the lock back however the agent ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

PREFIX = "assistant-tool-"

YOUNG_S = 60.0
"""A folder this young may not be locked yet."""


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A new folder that nobody else can enter; it is removed with all that was put into it."""
    await asyncio.to_thread(sweep)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    lock = _locked(folder)
    try:
        yield folder
    finally:
        await asyncio.to_thread(_remove, folder)
        if lock is not None:
            os.close(lock)


@cache
def sweep() -> None:
    """Remove, once in the life of a process, what agents of this user left behind that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _is_old_and_ours(folder) and (lock := _locked(folder)) is not None:
                _remove(folder)
                os.close(lock)


def _is_old_and_ours(folder: Path) -> bool:
    facts = folder.lstat()
    return facts.st_uid == os.geteuid() and folder.is_dir() and time.time() - facts.st_mtime > YOUNG_S


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder`; None where another process does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(folder: Path) -> None:
    """A tool may have closed folders against us."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            if not (inner := Path(parent, name)).is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
