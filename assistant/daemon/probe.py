"""Is there a daemon, and which process is it? The socket says whether somebody answers, the lock who is the daemon.

A service manager listens where no daemon runs yet, so who listens is not always one, and must not be ended as one.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

CONNECT_S = 1.0
_CREDENTIALS = struct.Struct("3i")


class Peer(NamedTuple):
    """The process at the other end of a Unix socket, as the kernel knows it."""

    pid: int
    uid: int
    gid: int


def peer(end: socket.socket) -> Peer:
    """Who is at the other end."""
    return Peer(*_CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def listener(path: Path) -> int | None:
    """The pid of the process that listens at `path`, None when nobody does (no file, or a stale one)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(CONNECT_S)
        try:
            end.connect(str(path))
            return peer(end).pid
        except OSError:
            return None


def holder(lock: Path) -> int | None:
    """The pid of the process that holds the lock of a daemon, None when none does. Wakes nobody.

    Who holds any lock and has this file open: the kernel's list names inodes, and those of some file systems (overlays)
    are not what `stat` calls them.
    """
    try:
        file, held = lock.stat(), Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    pids = {int(fields[4]) for fields in map(str.split, held) if fields[1] == "FLOCK"}
    return next((pid for pid in sorted(pids) if pid > 0 and _has_open(pid, file)), None)


def _has_open(pid: int, file: os.stat_result) -> bool:
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it ended, or is another user's
        return False
    return any(_leads_to(link, file) for link in links)


def _leads_to(link: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(link.stat(), file)
    except OSError:  # closed meanwhile
        return False


def lives(pid: int) -> bool:
    """Whether the process exists and is not a zombie that its parent has not asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
