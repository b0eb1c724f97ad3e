"""Is there a daemon, and which process is it? Asked of the socket itself: a connection proves more than any file."""

from __future__ import annotations

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
    """The pid of the process that holds the lock of a daemon, None when none does. Wakes nobody."""
    try:
        inode = str(lock.stat().st_ino)
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    pids = [int(fields[4]) for fields in held if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode]
    return next((pid for pid in pids if pid > 0), None)


def lives(pid: int) -> bool:
    """Whether the process exists and is not a zombie that its parent has not asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
