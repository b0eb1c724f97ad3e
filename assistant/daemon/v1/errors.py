"""Refusals in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, our sentence as the message."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from assistant.daemon.failures import broken, complaint, retry_after, where
from assistant.daemon.lane import LaneFull
from assistant.errors import AssistantError, BudgetError, DaemonError, Exit, ModelError, UsageError
from assistant.history import NameTaken, UnknownConversation, UnknownResponse
from assistant.protocol import Failed

log = structlog.get_logger("v1")


class ErrorBody(BaseModel):
    """What went wrong; `param` names the field of the request that it is about."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """The body of every refusal."""

    error: ErrorBody


class ApiError(AssistantError):
    """A refusal with all that OpenAI's shape says of one."""

    def __init__(self, message: str, status: int = 400, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(message=message, type=_type(status), param=param, code=code)

    def reply(self) -> ErrorReply:
        """The body that says it."""
        return ErrorReply(error=self.body)


_KINDS: dict[type[AssistantError], tuple[int, str | None]] = {
    UnknownConversation: (404, "conversation_not_found"),
    UnknownResponse: (404, "response_not_found"),
    NameTaken: (409, None),
    LaneFull: (429, "queue_full"),
    DaemonError: (503, None),
    ModelError: (404, "model_not_found"),
    BudgetError: (400, "budget_exceeded"),
    UsageError: (400, None),
}
_EXITS: dict[int, tuple[int, str | None]] = {
    Exit.USAGE: (400, None),
    Exit.BUDGET: (400, "budget_exceeded"),
    Exit.MODEL: (400, "model_not_usable"),
    Exit.DAEMON: (503, None),
    Exit.SIGINT: (503, "stopped"),
}


class ApiRoute(APIRoute):
    """A route whose refusals have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with every error that it raises turned into an answer."""
        handle = super().get_route_handler()

        async def refusing(request: Request) -> Response:
            try:
                return await handle(request)
            except (AssistantError, RequestValidationError, HTTPException) as error:
                return answer(api_error(error))
            except Exception as error:
                log.exception("request failed")
                return answer(ApiError(broken(error), 500))

        return refusing


def answer(error: ApiError) -> JSONResponse:
    """The response that says it."""
    return JSONResponse(error.reply().model_dump(), error.status, retry_after(error.status))


def api_error(error: AssistantError | RequestValidationError | HTTPException) -> ApiError:
    """The same refusal in OpenAI's shape."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return ApiError(f"{error.detail}.", error.status_code)
        case _:
            known = (found for kind, found in _KINDS.items() if isinstance(error, kind))
            status, code = next(known, (500, None))
            return ApiError(str(error), status, code=code)


def error_reply(status: int, message: str, _exit_code: int) -> ErrorReply:
    """The shape of refusals that no route of this API has seen (`assistant.daemon.failures`)."""
    return ApiError(message, status).reply()


def failure(failed: Failed, param: str = "messages") -> ApiError:
    """How a request ended on its way; where `param` does not fit, the sentence has the numbers."""
    if failed.too_long is not None:
        return ApiError(failed.message, param=param, code="context_length_exceeded")
    status, code = _EXITS.get(failed.exit_code, (500, None))
    return ApiError(failed.message, status, code=code)


def _invalid(error: RequestValidationError) -> ApiError:
    return ApiError(complaint(error), 422, param=where(error) or None)


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
