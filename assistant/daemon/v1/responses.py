"""/v1/responses: replies that can be gone on from by their ids, because they are turns of the history."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from assistant.daemon.guard import check_model
from assistant.daemon.sse import stream
from assistant.daemon.v1.asking import ANY_OBJECT, Asking, calling_of, clean, messages_of, tools_of
from assistant.daemon.v1.chat import STREAMED
from assistant.daemon.v1.chat_wire import (
    Allowed,
    AllowedTools,
    CalledFunction,
    ChatMessage,
    FunctionName,
    NamedTool,
    ToolCall,
)
from assistant.daemon.v1.chat_wire import ToolChoice as ChatChoice
from assistant.daemon.v1.chats import Chats
from assistant.daemon.v1.errors import ApiError
from assistant.daemon.v1.reply import begun, call_id, collected
from assistant.daemon.v1.response_events import ResponseEvents
from assistant.daemon.v1.response_shape import finished, stored
from assistant.daemon.v1.responses_wire import (
    AllowedFunctions,
    CallItem,
    ConversationId,
    MessageItem,
    NamedFunction,
    Record,
    Response,
    ResponseRequest,
    ResultItem,
    SchemaFormat,
    TextOptions,
    ToolChoice,
)
from assistant.history import History, UnknownResponse
from assistant.history import Response as Stored
from assistant.history.links import Message
from assistant.protocol import Engine

_ID = re.compile(r"resp_([1-9][0-9]{0,17})")
ResponseId = Annotated[str, Path(min_length=1, max_length=200)]


def add_responses(router: APIRouter, chats: Chats) -> None:
    """The routes."""

    @router.post("/responses", response_model=Response, responses={200: STREAMED})
    async def create(request: Request, body: ResponseRequest) -> Any:
        check_model(request.scope, body.model)
        body.refuse_foreign()
        asking, record = await _asking(chats, body)
        exchange, accepted = await chats.begin(asking)
        assert accepted.reply_id is not None
        if body.stream:
            events = await begun(chats.service, exchange, request)
            shaped = ResponseEvents(accepted.reply_id, record).of(events, may_call=asking.may_call)
            return stream(chats.service.lane, exchange, shaped)
        whole, worth = await collected(chats.service, exchange, request)
        return finished(accepted.reply_id, record, whole, worth)

    @router.get("/responses/{response}")
    async def get(response: ResponseId) -> Response:
        return stored(await _found(chats, response))


async def _asking(chats: Chats, body: ResponseRequest) -> tuple[Asking, Record]:
    """The request as every endpoint has it, and what its reply keeps of it."""
    previous = None if body.previous_response_id is None else await _found(chats, body.previous_response_id)
    before = None if previous is None else Record.model_validate(previous.request)
    tools = tools_of(body.tools or ())
    text = body.text or TextOptions()
    calling = calling_of(tools, _choice(body.tool_choice), body.parallel_tool_calls, _answer(text))
    open_calls = [] if previous is None else [call_id(previous.turn.id, at) for at in range(len(previous.calls))]
    new = messages_of(_chat_messages(body), partial(chats.form, body.model), open_calls)
    sampling = body.sampling(body.max_output_tokens)
    record = _record(body, chats.service.sampling(sampling).model_dump(), text)
    name = body.conversation.id if isinstance(body.conversation, ConversationId) else body.conversation
    if name is not None and previous is not None:
        raise ApiError("Use 'conversation' or 'previous_response_id', not both.", param="conversation")
    asking = Asking(
        engine=Engine(model=body.model),
        messages=[*_instructions(body), *new],
        sampling=sampling,
        tools=tools,
        calling=calling,
        logprobs=body.top_logprobs,
        conversation=name,
        record=record.model_dump(),
    )
    if previous is None or before is None:
        return asking, record
    if (before.tools, before.instructions) == (record.tools, record.instructions):
        return replace(asking, messages=new, after=previous.turn.id), record
    earlier = await chats.service.records.run(History.messages_to, previous.turn.id)
    said = earlier if before.instructions is None else earlier[1:]
    return replace(asking, messages=[*_instructions(body), *said, *new]), record


async def _found(chats: Chats, response: str) -> Stored:
    """A response by its id.

    Raises:
        ApiError: there is none.
    """
    try:
        if (number := _ID.fullmatch(response)) is not None:
            return await chats.service.records.run(History.response, int(number[1]))
    except UnknownResponse:
        pass
    raise ApiError(
        f"There is no response {response!r}.", 404, param="previous_response_id", code="previous_response_not_found"
    )


def _record(body: ResponseRequest, sampling: dict[str, Any], text: TextOptions) -> Record:
    fields = {name: sampling[name] for name in ("temperature", "top_p")}
    tools = [tool.model_dump(include={"type", "name", "description", "parameters"}) for tool in body.tools or ()]
    choice = body.tool_choice
    return Record(
        model=body.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
        max_output_tokens=sampling["max_tokens"],
        tools=[{"strict": True} | clean(tool, "tools") for tool in tools],
        tool_choice=choice if isinstance(choice, str) else choice.model_dump() if choice else "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        text={"format": {"type": "text"}} | clean(text.model_dump(by_alias=True, exclude_none=True), "text"),
        **fields,
    )


def _instructions(body: ResponseRequest) -> list[Message]:
    text = body.instructions
    return [Message("system", text, text)] if text else []


def _chat_messages(body: ResponseRequest) -> list[ChatMessage]:
    """The input as messages: calls stand in the message of the assistant that they follow."""
    if isinstance(body.input, str):
        return [ChatMessage(role="user", content=body.input)]
    found = list[ChatMessage]()
    for item in body.input:
        match item:
            case CallItem():
                _add_call(found, item)
            case ResultItem():
                found.append(ChatMessage(role="tool", content=item.output, tool_call_id=item.call_id))
            case MessageItem():
                found.append(ChatMessage(role=item.role, content=item.content))
    return found


def _add_call(messages: list[ChatMessage], item: CallItem) -> None:
    call = ToolCall(id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments))
    if not messages or messages[-1].role != "assistant":
        messages.append(ChatMessage(role="assistant"))
    messages[-1].tool_calls = [*(messages[-1].tool_calls or ()), call]


def _choice(choice: ToolChoice | None) -> ChatChoice | None:
    """The same choice as chat completions write it."""
    match choice:
        case NamedFunction():
            return _named(choice)
        case AllowedFunctions():
            allowed = Allowed(mode=choice.mode, tools=[_named(one) for one in choice.tools])
            return AllowedTools(type="allowed_tools", allowed_tools=allowed)
        case _:
            return choice


def _named(tool: NamedFunction) -> NamedTool:
    return NamedTool(type="function", function=FunctionName(name=tool.name))


def _answer(text: TextOptions) -> dict[str, Any] | None:
    """The JSON schema that a reply must follow."""
    if isinstance(text.format, SchemaFormat):
        schema: dict[str, Any] = clean(text.format.schema_ or ANY_OBJECT, "text")
        return schema
    return ANY_OBJECT if text.format is not None and text.format.type == "json_object" else None
