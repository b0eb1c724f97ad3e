"""The TCP address of `--listen`: loopback only, and the names under which a client may call it."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

_FORM = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[^\[\]:]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_WHY = "The daemon is not made for untrusted networks (docs/security.md): to reach it from elsewhere use ssh -L."


class Address(NamedTuple):
    """An IP address of this machine's loopback and a port; 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self._shown}:{self.port}"

    @property
    def _shown(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def hosts(self) -> frozenset[str]:
        """What a client that came to this address says in its Host header."""
        return frozenset({str(self), f"localhost:{self.port}"})


def parse_address(text: str) -> Address:
    """The address that "127.0.0.1:8123", "[::1]:8123" or "localhost:8123" names.

    Raises:
        ValueError: it is of another form, or no loopback address.
    """
    found = _FORM.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError("write an address and a port, for example 127.0.0.1:8123")
    host = "127.0.0.1" if found["four"] == "localhost" else found["six"] or found["four"]
    if not _parsed(host).is_loopback:
        raise ValueError(f"{host} is not a loopback address; write 127.0.0.1:{found['port']}. {_WHY}")
    return Address(host, int(found["port"]))


def _parsed(host: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(host)
    except ValueError:
        raise ValueError(f"{host} is not an IP address; write 127.0.0.1 or [::1]. {_WHY}") from None
