"""Landlock, spoken to directly: which files, connections and signals a process and all it starts may reach.

Imports nothing but Python.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

NEEDED = 3
"""The first version that also watches truncation; Linux 6.2."""
_NETWORK, _DEVICES, _SCOPES = 4, 5, 6
"""Versions that began to watch TCP ports, ioctl on devices, and signals and abstract sockets."""
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_BIND, _CONNECT = 1, 2
_ABSTRACT, _SIGNAL = 1, 2

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ALL = (1 << 15) - 1
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL


def version() -> int:
    """What this kernel speaks; 0: nothing."""
    return max(int(_libc().syscall(_CREATE, None, 0, 1)), 0)


def keeps_signals() -> bool:
    """Whether it also keeps signals in; otherwise a filter must."""
    return version() >= _SCOPES


def restrict(readable: Iterable[str], writable: Iterable[str], *, network: bool) -> None:
    """From now on this process reads and executes below `readable`, does all but special files below `writable`, and
    nothing else; no new privileges. Paths that do not exist are left out.

    Raises:
        OSError: the kernel refuses.
    """
    spoken = version()
    ruleset = _ruleset(spoken, network=network)
    for path in readable:
        _allow(ruleset, path, _READ)
    for path in writable:
        _allow(ruleset, path, _ALL & ~(_MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK))
    libc = _libc()
    if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "Landlock cannot be entered")
    os.close(ruleset)


def _ruleset(spoken: int, *, network: bool) -> int:
    files = _ALL | (_IOCTL if spoken >= _DEVICES else 0)
    attributes = struct.pack("=Q", files)
    if spoken >= _NETWORK:
        attributes += struct.pack("=Q", _BIND | (0 if network else _CONNECT))
    if spoken >= _SCOPES:
        attributes += struct.pack("=Q", _ABSTRACT | _SIGNAL)
    ruleset = int(_libc().syscall(_CREATE, attributes, len(attributes), 0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock takes no rules")
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        kept = rights if stat.S_ISDIR(os.fstat(place).st_mode) else rights & _OF_A_FILE
        if _libc().syscall(_ADD, ruleset, 1, struct.pack("=Qi", kept, place), 0):
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
    finally:
        os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
