"""A TCP port that leads to a daemon's socket, for programs that know no other way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def forwarded(path: Path) -> Iterator[int]:
    """The port, while it is open."""
    door = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = [door]

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                daemon = socket.socket(socket.AF_UNIX)
                daemon.connect(str(path))
                opened.extend((client, daemon))
                for source, target in ((client, daemon), (daemon, client)):
                    threading.Thread(target=_copy, args=(source, target), daemon=True).start()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        yield int(door.getsockname()[1])
    finally:
        for one in opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        serving.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
