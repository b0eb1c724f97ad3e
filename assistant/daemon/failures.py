"""What failures look like: a status, a sentence and an exit code, as a `Failed` or in the shape of a part of the API.

A part of the API with a shape of its own (by the beginning of its paths) gives its router `declared(ItsModel)` and
`create_app` its `Shape`; whatever refuses a request, from the door to the history, then speaks it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.responses import Response

from assistant.protocol import Failed, dump

Shape = Callable[[int, str, int], BaseModel]
"""Status, sentence, exit code → the body of the answer."""

_NO_JSON = "json_invalid"

RETRY_S = 5
"""What Retry-After says where the same request may do better later."""

MEANINGS = {
    400: "The request cannot be understood, or asks for something that cannot be.",
    401: "Over TCP: the token is missing or wrong.",
    403: "The request comes from a web page that is not listed.",
    404: "There is no such thing.",
    405: "This path knows other methods (Allow).",
    408: "The request was not complete in time.",
    409: "It cannot be done as things are: a name is taken, a model is missing, the budget does not hold it.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "Over TCP: the Host header names another server.",
    422: "A field is missing, unknown, of another type or out of its bounds.",
    429: "As many requests as allowed are waiting (Retry-After).",
    431: "The header is too large.",
    500: "The daemon failed; its log says where.",
    503: "The daemon stops, or cannot take more connections (Retry-After).",
}


def declared(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of the failures of a router's routes.

    One brings the model into the document and the others refer to it: FastAPI builds a validator for every model of
    every route, which was a fifth of the time until a daemon answered.
    """
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": meaning, "content": body} for status, meaning in MEANINGS.items()
    }
    return told | {422: {"model": model, "description": MEANINGS[422]}}


def failed(_status: int, message: str, exit_code: int) -> Failed:
    """The shape of everything that has none of its own."""
    return Failed(message=message, exit_code=exit_code)


def as_json(body: BaseModel) -> bytes:
    """The body of an answer; a half of a surrogate pair, which UTF-8 cannot hold, becomes a question mark."""
    return dump(body).encode("utf-8", "replace")


def retry_after(status: int) -> dict[str, str]:
    """The header that says when to try again, where that may help."""
    return {"Retry-After": str(RETRY_S)} if status in (429, 503) else {}


def broken(error: Exception) -> str:
    """What is told of an error that is a fault of the daemon."""
    return f"The daemon failed ({type(error).__name__}); its log says where."


def where(error: RequestValidationError) -> str:
    """The field that was refused first; empty when it is the whole request."""
    first = error.errors()[0]
    return "" if first["type"] == _NO_JSON else ".".join(str(part) for part in first["loc"][1:])


def complaint(error: RequestValidationError) -> str:
    """What is wrong with the field that was refused first, as a sentence."""
    first = error.errors()[0]
    if first["type"] == _NO_JSON:
        return f"The body of the request is not JSON ({first['ctx']['error']})."
    return f"{where(error) or 'The request'}: {first['msg'].removeprefix('Value error, ').rstrip('.')}."


@dataclass(frozen=True, slots=True)
class Failures:
    """The shapes of one application by the beginnings of its paths."""

    shapes: Mapping[str, Shape] = field(default_factory=dict)

    def answer(
        self, path: str, status: int, message: str, exit_code: int, headers: Mapping[str, str] | None = None
    ) -> Response:
        """The response to a request for `path` that failed."""
        shape = next((one for start, one in self.shapes.items() if path.startswith(start)), failed)
        body = as_json(shape(status, message, exit_code))
        return Response(body, status, {**retry_after(status), **(headers or {})}, "application/json")
