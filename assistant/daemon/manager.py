"""The service manager that started the daemon, if one did: the socket it hands over, and what it wants to be told.

systemd's protocols: LISTEN_FDS and LISTEN_PID for the socket, datagrams to NOTIFY_SOCKET for the news.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from assistant.errors import UsageError

FIRST_FD = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET")


class Manager:
    """Who is told how the daemon fares, and who may have opened its door already."""

    def __init__(self, passed: int = 0, notify: str | None = None) -> None:
        """`passed`: sockets from FIRST_FD on; `notify`: the path of a socket, "@name" an abstract one."""
        self._passed = passed
        self._notify = notify

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Self:
        """What the environment says of it; it is taken out, so that no child believes it is meant."""
        pid, count, _, notify = (environ.pop(name, "") for name in VARIABLES)
        ours = pid == str(os.getpid()) and count.isdecimal()
        return cls(int(count) if ours else 0, notify or None)

    def door(self, path: Path) -> socket.socket | None:
        """The listening socket that was handed over, None when none was.

        Raises:
            UsageError: it is not the one at `path`, where clients look for it.
        """
        if not self._passed:
            return None
        door = socket.socket(fileno=FIRST_FD)
        door.set_inheritable(False)
        if self._passed > 1 or door.family != socket.AF_UNIX or door.getsockname() != str(path):
            raise UsageError(
                f"The service manager hands over {self._passed} socket(s), the first at {door.getsockname()!r}; "
                f"clients look for one at {path}. Print the unit anew: assistant daemon service systemd-socket"
            )
        return door

    def tell(self, news: str) -> None:
        """Say "READY=1" or the like; a manager that does not listen is no reason to fail."""
        if self._notify is None:
            return
        address = "\0" + self._notify[1:] if self._notify.startswith("@") else self._notify
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(news.encode(), address)
