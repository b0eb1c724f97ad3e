"""A daemon's TCP door as a stranger finds it: bytes on a socket, and what comes back."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx2

from assistant.daemon.token import token_of
from assistant.places import Places
from tests.conftest import RunningDaemon

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Door:
    """Where a daemon listens, and its token."""

    host: str
    port: int
    token: str
    socket: Path

    @classmethod
    def of(cls, daemon: RunningDaemon) -> Door:
        with at_socket(daemon.places) as http:
            host, _, port = http.get("/api/status").json()["listen"].rpartition(":")
        return cls(host.strip("[]"), int(port), token_of(daemon.places.token), daemon.places.socket)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), PATIENCE_S)

    def client(self, **headers: str) -> httpx2.Client:
        """A client with the token."""
        return httpx2.Client(base_url=self.url, headers=self.bearer | headers, timeout=PATIENCE_S)

    def filled(self, text: str) -> bytes:
        """`text` with PORT and TOKEN in it."""
        return text.replace("PORT", str(self.port)).replace("TOKEN", self.token).encode("latin-1")

    def exchange(self, request: bytes) -> Answer:
        """Send bytes, read one response."""
        with self.connect() as end:
            end.sendall(request)
            return read_answer(end)

    def ask_health(self) -> int:
        """Status that a client which does everything right gets."""
        return self.exchange(self.filled(request("/health", GOOD_HOST, GOOD_TOKEN))).status


GOOD_HOST = "Host: 127.0.0.1:PORT"
GOOD_TOKEN = "Authorization: Bearer TOKEN"


def request(target: str, *headers: str, method: str = "GET", version: str = "1.1", body: str = "") -> str:
    """A request as it goes over the wire, without anything that was not said."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", *headers, "", body])


def read_answer(end: socket.socket) -> Answer:
    response = HTTPResponse(end)
    response.begin()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def at_socket(places: Places) -> httpx2.Client:
    """A bare HTTP client at the Unix socket."""
    transport = httpx2.HTTPTransport(uds=str(places.socket))
    return httpx2.Client(transport=transport, base_url="http://daemon", timeout=PATIENCE_S)
