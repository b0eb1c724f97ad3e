"""What a running call uses in all: the kernel limits each process, not their sum, and root's number not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from assistant.agent.limits import MIB, Limits

EVERY_S = 0.05


def excess(session: int, folder: Path, limits: Limits) -> str | None:
    """Which limit the processes of `session` or the content of `folder` exceed, for a sentence; None: none."""
    members = _members(session)
    if len(members) > limits.processes:
        return f"it started more than {limits.processes} processes"
    if sum(_resident(pid) for pid in members) > limits.memory:
        return f"its processes held more than {limits.memory // MIB:,} MiB of memory"
    return _folder_excess(folder, limits)


def _members(session: int) -> list[int]:
    """Processes of the session. Guards of a sandbox count too; they are few."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == session:
                found.append(pid)
    return found


def _resident(pid: int) -> int:
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _folder_excess(folder: Path, limits: Limits) -> str | None:
    used = 0
    for count, size in enumerate(_sizes(folder)):
        used += size
        if count >= limits.entries:
            return f"it made more than {limits.entries:,} files"
        if used > limits.disk:
            return f"its files grew beyond {limits.disk // MIB:,} MiB"
    return None


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes on disk of every entry below a folder; what vanishes meanwhile has none."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield _size(entry)
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0
