"""The two ways in: the Unix socket (0600, our own user) and, where it is asked for, an address on loopback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from assistant.address import Address
from assistant.errors import UsageError
from assistant.places import private

LONGEST_PATH = 107
BACKLOG = 64


def bind(path: Path) -> socket.socket:
    """A listening socket at `path`, 0600 in a 0700 folder. Only the holder of the lock may call this."""
    private(path.parent)
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise UsageError(
            f"The socket path {path} is longer than {LONGEST_PATH} bytes; set ASSISTANT_HOME to a shorter folder."
        )
    path.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        door.bind(str(path))
    finally:
        os.umask(mask)
    door.listen(BACKLOG)
    return door


def bind_tcp(address: Address) -> socket.socket:
    """A listening socket at a loopback address.

    Raises:
        UsageError: it cannot be had, mostly because another program has it.
    """
    door = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((address.host, address.port))
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        raise UsageError(f"The daemon cannot listen at {address} ({error.strerror}); choose another port.") from None
    return door


def bound(door: socket.socket) -> Address:
    """Where a socket of `bind_tcp` listens, with the port that it was given."""
    host, port, *_ = door.getsockname()
    return Address(host, port)
