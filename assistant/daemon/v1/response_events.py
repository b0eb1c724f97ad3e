"""A response as a stream of events, in the order in which OpenAI's client expects them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sse_starlette import ServerSentEvent

from assistant.daemon.v1.errors import ApiError
from assistant.daemon.v1.reply import Delta, Whole, written
from assistant.daemon.v1.response_shape import call_item, failed, finished, open_response, text_item
from assistant.daemon.v1.responses_wire import OutputText, Record, Status
from assistant.daemon.v1.wire import Logprob
from assistant.protocol import Event


class ResponseEvents:
    """The events of one response."""

    def __init__(self, reply_id: int, record: Record) -> None:
        self._reply_id = reply_id
        self._record = record
        self._sent = 0
        self._text = ""
        self._worth: list[Logprob] = []
        self._at: dict[str, Any] = {"output_index": 0, "content_index": 0, "item_id": f"msg_{reply_id}"}

    async def of(self, events: AsyncIterator[Event], *, may_call: bool) -> AsyncIterator[ServerSentEvent]:
        """From `response.created` to `response.completed`, or to what happened instead."""
        response = open_response(self._reply_id, self._record)
        yield self._event("response.created", response=response.model_dump())
        yield self._event("response.in_progress", response=response.model_dump())
        try:
            async for part in written(events, may_call=may_call):
                for event in self._delta(part) if isinstance(part, Delta) else self._ending(part):
                    yield event
        except ApiError as error:
            broken = failed(response, error.body)
            yield self._event("response.failed", response=broken.model_dump())

    def _delta(self, delta: Delta) -> Iterator[ServerSentEvent]:
        if not self._text:
            yield from self._open_text()
        self._text += delta.text
        self._worth += delta.logprobs
        worth = [one.model_dump() for one in delta.logprobs]
        yield self._event("response.output_text.delta", **self._at, delta=delta.text, logprobs=worth)

    def _open_text(self) -> Iterator[ServerSentEvent]:
        item = text_item(self._reply_id, "", "in_progress").model_dump() | {"content": []}
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._at, part=OutputText(text="").model_dump())

    def _ending(self, whole: Whole) -> Iterator[ServerSentEvent]:
        """The text closed, the calls, and the response as a whole."""
        response = finished(self._reply_id, self._record, whole, self._worth)
        if self._text or not whole.calls:
            yield from self._close_text(whole.said, response.status)
        first = 1 if self._text or not whole.calls else 0
        for at, call in enumerate(whole.calls):
            item, place = call_item(self._reply_id, at, call).model_dump(), first + at
            where = {"item_id": item["id"], "output_index": place}
            opened = item | {"arguments": "", "status": "in_progress"}
            yield self._event("response.output_item.added", output_index=place, item=opened)
            yield self._event("response.function_call_arguments.delta", **where, delta=item["arguments"])
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._event("response.function_call_arguments.done", **where, **done)
            yield self._event("response.output_item.done", output_index=place, item=item)
        kind = "response.completed" if response.status == "completed" else "response.incomplete"
        yield self._event(kind, response=response.model_dump())

    def _close_text(self, text: str, status: Status) -> Iterator[ServerSentEvent]:
        if not self._text:
            yield from self._open_text()
        item = text_item(self._reply_id, text, status, self._worth).model_dump()
        part = item["content"][0]
        yield self._event("response.output_text.done", **self._at, text=text, logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **self._at, part=part)
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _event(self, kind: str, **fields: Any) -> ServerSentEvent:
        body = {"type": kind, "sequence_number": self._sent} | fields
        self._sent += 1
        return ServerSentEvent(json.dumps(body), event=kind)
