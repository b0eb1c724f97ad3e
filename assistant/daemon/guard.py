"""What a request says about itself, judged before a route sees it, always in this order:

    target 400 · header 431 · Host 421 · Origin 403 · token 401 · content type 415 · size 413

Host and token are asked for over TCP only: at the Unix socket the kernel has told who it is (`gate.py`). Nothing is
decided by a URL that was put together from a header.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.address import Address
from assistant.daemon.failures import Failures
from assistant.daemon.limits import MIB, Limits
from assistant.daemon.names import exact
from assistant.daemon.token import read_token
from assistant.errors import Exit, UsageError
from assistant.settings import Settings

JSON = b"application/json"
EXACT = "/api/"
"""Paths with names of one segment each (`names.py`)."""
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="assistant"'}


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is let in over TCP, and how much anyone may send. Without a `token` nobody is."""

    limits: Limits = field(default_factory=Limits)
    hosts: frozenset[bytes] = frozenset()
    origins: frozenset[bytes] = frozenset()
    token: Path | None = None

    @classmethod
    def of(cls, settings: Settings, limits: Limits, address: Address | None, token: Path) -> Rules:
        """What the settings say, for a daemon that listens at `address`."""
        hosts = {*settings.hosts, *(address.hosts if address else ())}
        return cls(limits, _encoded(hosts), _encoded(settings.origins), token)


class Refused(Exception):
    """A request that no route gets to see."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Guard:
    """Middleware that refuses what breaks a rule, and counts bodies that did not say their length."""

    def __init__(self, app: ASGIApp, rules: Rules, failures: Failures) -> None:
        self._app = app
        self._rules = rules
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            limit = self._judge(scope)
        except Refused as no:
            answer = self._failures.answer(scope["path"], no.status, str(no), Exit.USAGE, no.headers)
            await answer(scope, receive, send)
            return
        if scope["path"].startswith(EXACT):
            scope["path"] = exact(scope["path"], scope["raw_path"])
        await self._app(scope, _counted(receive, limit), send)

    def _judge(self, scope: Scope) -> int:
        """Every check in its order; the largest body that this request may have."""
        _check_target(scope)
        _check_header(scope, self._rules.limits.header)
        private = is_private(scope)
        if not private:
            self._check_host(scope)
        self._check_origin(scope)
        if not private:
            self._check_token(scope)
        _check_type(scope)
        limit = self._limit(scope["path"], private)
        length = _values(scope, b"content-length")
        if length and int(length[0]) > limit:
            raise Refused(413, _too_much(limit))
        return limit

    def _check_host(self, scope: Scope) -> None:
        said = _values(scope, b"host")
        if len(said) != 1 or said[0] not in self._rules.hosts:
            raise Refused(421, "The Host header of this request does not name this daemon (setting hosts).")

    def _check_origin(self, scope: Scope) -> None:
        if any(origin not in self._rules.origins for origin in _values(scope, b"origin")):
            raise Refused(403, "Requests of this web page are not admitted (setting origins).")

    def _check_token(self, scope: Scope) -> None:
        said = _values(scope, b"authorization")
        if len(said) != 1 or not self._is_token(said[0]):
            raise Refused(401, "Send the header Authorization: Bearer TOKEN; see: assistant daemon token", CHALLENGE)

    def _is_token(self, header: bytes) -> bool:
        scheme, _, value = header.partition(b" ")
        if scheme.lower() != b"bearer" or self._rules.token is None:
            return False
        try:
            right = read_token(self._rules.token)  # anew each time: a token that was rotated is void at once
        except UsageError:
            return False
        return hmac.compare_digest(value, right.encode())

    def _limit(self, path: str, private: bool) -> int:
        limits = self._rules.limits
        imports = path.startswith("/api/conversations/") and path.endswith(("/import", "/turns"))
        return limits.import_body if private and imports else limits.body


def is_private(scope: Scope) -> bool:
    """Whether a request came through the Unix socket. An address without a port is no TCP address."""
    server = scope.get("server")
    return server is not None and server[1] is None


def check_model(scope: Scope, model: str | None) -> None:
    """That a client at TCP names a model of the catalogue, not a place on the disk of the daemon.

    Raises:
        UsageError: it is a `file:` source.
    """
    if model is not None and model.startswith("file:") and not is_private(scope):
        raise UsageError("Over TCP a model goes by its id (GET /api/models): a file: source is a path of this machine.")


def _check_target(scope: Scope) -> None:
    """Only a path: a URL or an authority in its place names a host that nobody looked at."""
    if not scope["raw_path"].startswith(b"/"):
        raise Refused(400, "The target of a request must be a path that begins with a slash.")


def _check_header(scope: Scope, limit: int) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > limit:
        raise Refused(431, f"The header of a request may hold at most {limit // 1024} KiB.")


def _check_type(scope: Scope) -> None:
    """A body is JSON, whatever the method; a browser cannot send that to others without asking first."""
    length = _values(scope, b"content-length")
    has_body = bool(_values(scope, b"transfer-encoding")) or (bool(length) and length[0].strip(b"0") != b"")
    kinds = _values(scope, b"content-type")
    if has_body and (len(kinds) != 1 or kinds[0].split(b";")[0].strip().lower() != JSON):
        raise Refused(415, "The body of a request must be application/json.")


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _counted(receive: Receive, limit: int) -> Receive:
    """`receive` that ends a body which grows too large."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, _too_much(limit).rstrip("."))
        return message

    return counted


def _too_much(limit: int) -> str:
    return f"The body of this request may hold at most {limit // MIB} MiB."


def _encoded(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in names)
