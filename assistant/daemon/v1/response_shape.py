"""A response as an object: while it is written, when it is whole, and as the history has it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime

from assistant.daemon.v1.errors import ErrorBody
from assistant.daemon.v1.reply import Whole, call_id
from assistant.daemon.v1.responses_wire import (
    IncompleteDetails,
    InputTokens,
    OutputCall,
    OutputMessage,
    OutputText,
    Record,
    Response,
    ResponseUsage,
    Status,
)
from assistant.daemon.v1.wire import Logprob, Spent
from assistant.history import Response as Stored
from assistant.protocol import Call, Usage


def response_id(reply_id: int) -> str:
    """The id of a reply as a response."""
    return f"resp_{reply_id}"


def open_response(reply_id: int, record: Record) -> Response:
    """A response of which nothing is written yet."""
    return Response(**record.model_dump(), id=response_id(reply_id), created_at=int(time.time()), status="in_progress")


def finished(reply_id: int, record: Record, whole: Whole, worth: list[Logprob]) -> Response:
    """A response that is whole."""
    found = open_response(reply_id, record)
    _end(found, whole.done.usage, whole.spent(), cut_off=whole.cut_off)
    _say(found, reply_id, whole.said, whole.calls, worth)
    return found


def failed(response: Response, error: ErrorBody) -> Response:
    """A response that became nothing."""
    return response.model_copy(update={"status": "failed", "error": error})


def stored(found: Stored) -> Response:
    """A response as the history has it."""
    turn, record = found.turn, Record.model_validate(found.request)
    created = int(datetime.fromisoformat(turn.created).timestamp())
    response = Response(**record.model_dump(), id=response_id(turn.id), created_at=created, status="in_progress")
    if turn.state == "interrupted":
        response.status = "incomplete"
    if turn.state != "done" or turn.usage is None:
        response.output = [text_item(turn.id, found.said, response.status)] if found.said else []
        return response
    spent = Spent(**turn.usage.model_dump(), conversation=found.conversation)
    _end(response, turn.usage, spent, cut_off=turn.usage.completion_tokens >= response.max_output_tokens)
    _say(response, turn.id, found.said, found.calls, [])
    return response


def text_item(reply_id: int, text: str, status: Status, worth: Sequence[Logprob] = ()) -> OutputMessage:
    """What a reply says, as an item."""
    content = OutputText(text=text, logprobs=list(worth))
    return OutputMessage(id=f"msg_{reply_id}", status=status, content=[content])


def call_item(reply_id: int, at: int, call: Call) -> OutputCall:
    """What a reply calls, as an item."""
    return OutputCall(
        id=f"fc_{reply_id}_{at}",
        call_id=call_id(reply_id, at),
        name=call.name,
        arguments=json.dumps(call.arguments, ensure_ascii=False),
        status="completed",
    )


def _end(response: Response, usage: Usage, spent: Spent, *, cut_off: bool) -> None:
    response.status = "incomplete" if cut_off else "completed"
    response.incomplete_details = IncompleteDetails(reason="max_output_tokens") if cut_off else None
    response.usage = ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokens(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
    response.assistant = spent


def _say(response: Response, reply_id: int, said: str, calls: Sequence[Call], worth: Sequence[Logprob]) -> None:
    message = [text_item(reply_id, said, response.status, worth)] if said or not calls else []
    response.output = [*message, *(call_item(reply_id, at, call) for at, call in enumerate(calls))]
