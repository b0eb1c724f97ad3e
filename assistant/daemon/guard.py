"""What is refused before a route sees it: bodies that are too large, and bodies that are not JSON."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.protocol import Failed

MIB = 1024**2
LARGEST_BODY = 8 * MIB
LARGEST_IMPORT = 64 * MIB


class Guard:
    """Middleware that bounds the body of every request and admits application/json only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name in (b"content-type", b"content-length")}
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        limit = LARGEST_IMPORT if scope["path"].endswith(("/import", "/turns")) else LARGEST_BODY
        if scope["method"] in ("POST", "PATCH", "PUT") and kind != b"application/json":
            await _refuse(415, "The body of a request must be application/json.")(scope, receive, send)
        elif int(headers.get(b"content-length", b"0")) > limit:
            await _refuse(413, _too_much(limit))(scope, receive, send)
        else:
            await self._bounded(limit, scope, receive, send)

    async def _bounded(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a body that did not say its length."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, _too_much(limit).rstrip("."))
            return message

        await self._app(scope, counted, send)


def _too_much(limit: int) -> str:
    return f"The body of this request may hold at most {limit // MIB} MiB."


def _refuse(status: int, message: str) -> JSONResponse:
    return JSONResponse(Failed(message=message, exit_code=2).model_dump(), status)
