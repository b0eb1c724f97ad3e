"""What one client may take of the daemon. The values are those of docs/security.md; tests use shorter times."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    body: int = 4 * MIB
    import_body: int = 64 * MIB
    """Imported turns, over the Unix socket only."""
    header: int = 32 * 1024
    connections: int = 64
    """Over TCP, and as many over the Unix socket: strangers cannot take the places of the user."""
    request_s: float = 30.0
    """From the beginning of a request, or of the connection, to the last byte of the request."""
    unread_s: float = 30.0
    """How long a client may leave unread what lies in its socket's buffers."""
    unread: int = 64 * 1024
    """What may wait in the daemon for such a client, beside the kernel's own buffer."""
