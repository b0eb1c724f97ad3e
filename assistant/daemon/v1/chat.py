"""/v1/chat/completions: a client brings its messages, or names a conversation; the reply whole or as it is written."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from sse_starlette import ServerSentEvent

from assistant.daemon.guard import check_model
from assistant.daemon.sse import stream
from assistant.daemon.v1.asking import ANY_OBJECT, Asking, calling_of, clean, messages_of, tools_of
from assistant.daemon.v1.chat_wire import (
    ChatCompletion,
    ChatReply,
    ChatRequest,
    ChatUsage,
    Choice,
    FinishReason,
    Logprobs,
    SchemaFormat,
    TextFormat,
    WrittenCall,
    WrittenFunction,
)
from assistant.daemon.v1.chats import Chats
from assistant.daemon.v1.errors import ApiError
from assistant.daemon.v1.reply import Delta, Whole, begun, call_id, collected, written
from assistant.daemon.v1.wire import CachedTokens, Logprob, NoReasoning
from assistant.protocol import Accepted, Engine, Event, Usage

STREAMED: dict[str, Any] = {
    "description": 'The reply; with "stream": true it comes as server-sent events.',
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def add_chat(router: APIRouter, chats: Chats) -> None:
    """The route."""

    @router.post(
        "/chat/completions",
        response_model=ChatCompletion,
        response_model_exclude_unset=True,
        responses={200: STREAMED},
    )
    async def completions(request: Request, body: ChatRequest) -> Any:
        check_model(request.scope, body.model)
        asking = _asking(chats, body)
        exchange, accepted = await chats.begin(asking)
        reply = _Reply(body, accepted)
        if body.stream:
            events = await begun(chats.service, exchange, request)
            return stream(chats.service.lane, exchange, reply.chunks(events, may_call=asking.may_call))
        return reply.completion(*await collected(chats.service, exchange, request))


def _asking(chats: Chats, body: ChatRequest) -> Asking:
    body.refuse_foreign()
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    tools = tools_of([tool.function for tool in body.tools or ()])
    stop = [body.stop] if isinstance(body.stop, str) else body.stop
    return Asking(
        engine=Engine(model=body.model),
        messages=messages_of(body.messages, partial(chats.form, body.model)),
        sampling=body.sampling(body.max_completion_tokens or body.max_tokens, stop),
        tools=tools,
        calling=calling_of(tools, body.tool_choice, body.parallel_tool_calls, _answer(body.response_format)),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        conversation=body.conversation,
    )


def _answer(form: TextFormat | SchemaFormat | None) -> dict[str, Any] | None:
    """The JSON schema that a reply must follow."""
    if isinstance(form, SchemaFormat):
        schema: dict[str, Any] = clean(form.json_schema.schema_ or ANY_OBJECT, "response_format")
        return schema
    return ANY_OBJECT if form is not None and form.type == "json_object" else None


class _Reply:
    """One reply in OpenAI's shape."""

    def __init__(self, body: ChatRequest, accepted: Accepted) -> None:
        assert accepted.reply_id is not None
        self._body = body
        self._reply_id = accepted.reply_id
        self._head = {"id": f"chatcmpl-{self._reply_id}", "created": int(time.time()), "model": body.model}

    def completion(self, whole: Whole, worth: list[Logprob]) -> ChatCompletion:
        """All of it."""
        content = whole.said or None if whole.calls else whole.said
        message = ChatReply(role="assistant", content=content)
        if whole.calls:
            message.tool_calls = self._calls(whole)
        logprobs = Logprobs(content=worth) if self._body.logprobs else None
        choice = Choice(index=0, message=message, logprobs=logprobs, finish_reason=_finish(whole))
        return ChatCompletion(
            **self._head,
            object="chat.completion",
            choices=[choice],
            usage=_usage(whole.done.usage),
            assistant=whole.spent(),
        )

    async def chunks(self, events: AsyncIterator[Event], *, may_call: bool) -> AsyncIterator[ServerSentEvent]:
        """The same piece by piece."""
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async for part in written(events, may_call=may_call):
                match part:
                    case Delta():
                        yield self._chunk({"content": part.text}, worth=part.logprobs)
                    case Whole():
                        for chunk in self._ending(part):
                            yield chunk
        except ApiError as error:
            yield ServerSentEvent(error.reply().model_dump_json())
            return
        yield ServerSentEvent("[DONE]")

    def _ending(self, whole: Whole) -> list[ServerSentEvent]:
        """What follows the text: calls, why it ended, and what it took."""
        found = []
        for at, call in enumerate(self._calls(whole)):
            opened = call.model_dump() | {"index": at, "function": {"name": call.function.name, "arguments": ""}}
            arguments = {"index": at, "function": {"arguments": call.function.arguments}}
            found += [self._chunk({"tool_calls": [opened]}), self._chunk({"tool_calls": [arguments]})]
        found.append(self._chunk({}, finish=_finish(whole)))
        if self._body.stream_options is not None and self._body.stream_options.include_usage:
            usage = {"usage": _usage(whole.done.usage).model_dump(), "assistant": whole.spent().model_dump()}
            found.append(self._event({"choices": []} | usage))
        return found

    def _chunk(
        self, delta: dict[str, Any], finish: FinishReason | None = None, worth: list[Logprob] | None = None
    ) -> ServerSentEvent:
        logprobs = {"content": [one.model_dump() for one in worth]} if worth else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._event({"choices": [choice]})

    def _event(self, body: dict[str, Any]) -> ServerSentEvent:
        return ServerSentEvent(json.dumps(self._head | {"object": "chat.completion.chunk"} | body))

    def _calls(self, whole: Whole) -> list[WrittenCall]:
        return [
            WrittenCall(
                id=call_id(self._reply_id, at),
                type="function",
                function=WrittenFunction(name=call.name, arguments=json.dumps(call.arguments, ensure_ascii=False)),
            )
            for at, call in enumerate(whole.calls)
        ]


def _finish(whole: Whole) -> FinishReason:
    if whole.cut_off:
        return "length"
    return "tool_calls" if whole.calls else "stop"


def _usage(usage: Usage) -> ChatUsage:
    return ChatUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=usage.cached_tokens),
        completion_tokens_details=NoReasoning(reasoning_tokens=0),
    )
