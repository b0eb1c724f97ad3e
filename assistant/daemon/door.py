"""The Unix socket: how it is bound (0600, by us), who may come in (our own user), and whether anyone answers."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from assistant.daemon.probe import Peer, peer
from assistant.errors import UsageError
from assistant.places import private

__all__ = ["OwnUserOnly", "Peer", "bind"]

LONGEST_PATH = 107
BACKLOG = 64


class OwnUserOnly(H11Protocol):
    """uvicorn's protocol that closes the connection of another user before a byte is parsed."""

    def connection_made(self, transport: Any) -> None:
        """Look at the peer's uid first."""
        super().connection_made(transport)
        if peer(transport.get_extra_info("socket")).uid != os.geteuid():
            transport.abort()


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
