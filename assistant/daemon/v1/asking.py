"""From a request in OpenAI's shape to what the history and the worker are asked: messages, tools, calling."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant.agent.formats import Format
from assistant.daemon.v1.chat_wire import AllowedTools, ChatMessage, NamedTool, ToolCall, ToolChoice
from assistant.daemon.v1.errors import ApiError
from assistant.daemon.v1.wire import Function, Part
from assistant.history.links import Message
from assistant.protocol import Call, Calling, Engine, Role, Sampling, ToolSpec

_ROLES: dict[str, Role] = {"developer": "system"}
_TEXTS = ("text", "input_text", "output_text")
NOTHING = "(nothing)"
"""What the model reads as the result of a tool that says nothing."""
ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Asking:
    """A request, whatever endpoint it came to.

    `messages` are all of them, or with `after` (the turn of a reply) those behind it. `conversation` names one with
    long memory. `record` is what the reply keeps of its request.
    """

    engine: Engine
    messages: list[Message]
    sampling: Sampling
    tools: list[ToolSpec] = field(default_factory=list)
    calling: Calling | None = None
    logprobs: int | None = None
    conversation: str | None = None
    after: int | None = None
    record: dict[str, Any] | None = None

    @property
    def may_call(self) -> bool:
        """Whether its reply may call a tool."""
        return self.calling is not None and bool(self.calling.tools) and self.calling.may_call


def messages_of(
    messages: Sequence[ChatMessage], form: Callable[[], Format], open_calls: Sequence[str] = ()
) -> list[Message]:
    """Messages as the history keeps them; those that say nothing are left out.

    Results of tools come in the order of their calls, as models read them without ids. `open_calls` are the ids of
    calls in front of the first message; `form` says how the model writes calls.

    Raises:
        ApiError: a part that is no text, a result without a call or a call without a result.
    """
    found, waiting, results = list[Message](), list(open_calls), dict[str, str]()
    for at, message in enumerate(messages):
        where, text = f"messages.{at}", _text(message.content, f"messages.{at}.content")
        _refuse_parts(message, where)
        if message.role == "tool":
            results[_answered(message, waiting, results, where)] = text
            continue
        found += _told(waiting, results, where)
        waiting, results = [call.id for call in message.tool_calls or ()], {}
        if waiting and message.role != "assistant":
            raise ApiError("Only messages of the assistant call tools.", param=f"{where}.tool_calls")
        calls = tuple(_call(call, where) for call in message.tool_calls or ())
        written = "\n".join(part for part in (text, form().written(calls) if calls else "") if part)
        found.append(Message(_ROLES.get(message.role, message.role), _whole(written), text, calls))  # type: ignore[arg-type]
    found += _told(waiting, results, f"messages.{len(messages)}")
    said = [message for message in found if message.text]
    if not said:
        raise ApiError("None of the messages says anything.", param="messages")
    return said


def tools_of(functions: Sequence[Function]) -> list[ToolSpec]:
    """The tools, in the order given."""
    names = [one.name for one in functions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ApiError(f"There are two tools {twice!r}; give each its own name.", param="tools")
    return [
        ToolSpec(name=one.name, description=one.description or "", parameters=clean(one.parameters or {}, "tools"))
        for one in functions
    ]


def calling_of(
    tools: list[ToolSpec], choice: ToolChoice | None, parallel: bool | None, answer: dict[str, Any] | None
) -> Calling | None:
    """What a reply may call and must look like; None where it is just words.

    Raises:
        ApiError: a tool is chosen that is not there.
    """
    only, must = _chosen(choice)
    unknown = [name for name in only or () if name not in [tool.name for tool in tools]]
    if unknown or (must and not tools):
        told = f"There is no tool {unknown[0]!r}" if unknown else "There are no tools"
        raise ApiError(f"{told} among 'tools' that could be called.", param="tool_choice")
    if not tools and answer is None:
        return None
    return Calling(
        tools=tools, answer=answer, may_call=choice != "none", must_call=must, only=only, one=parallel is False
    )


def clean(value: Any, param: str) -> Any:
    """JSON that every place accepts that it goes to: no numbers that JSON has not, no halves of characters."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"{param} is not plain JSON: {error}.", param=param) from error
    return json.loads(_whole(text))


def _chosen(choice: ToolChoice | None) -> tuple[list[str] | None, bool]:
    """(names that may be called, None: all; whether something must be called)."""
    match choice:
        case NamedTool():
            return [choice.function.name], True
        case AllowedTools():
            allowed = choice.allowed_tools
            return [tool.function.name for tool in allowed.tools], allowed.mode == "required"
        case _:
            return None, choice == "required"


def _refuse_parts(message: ChatMessage, where: str) -> None:
    for name in ("audio", "function_call"):
        if (message.model_extra or {}).get(name):
            raise ApiError(f"The field {name!r} of a message is not supported here.", param=f"{where}.{name}")


def _text(content: str | list[Part] | None, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.type not in _TEXTS or part.text is None:
            raise ApiError(
                f"The model reads text only; a part of the type {part.type!r} cannot be given to it.",
                param=where,
                code="unsupported_content",
            )
    return "\n".join(part.text or "" for part in content)


def _answered(message: ChatMessage, waiting: Sequence[str], results: dict[str, str], where: str) -> str:
    """The id of the call that a result belongs to."""
    call = message.tool_call_id or ""
    if call in waiting and call not in results:
        return call
    raise ApiError(
        f"The result {call!r} belongs to no call that waits for one: it must follow the message of the "
        "assistant that calls.",
        param=f"{where}.tool_call_id",
    )


def _told(waiting: Sequence[str], results: dict[str, str], where: str) -> Iterator[Message]:
    """The results of calls, in the order of the calls."""
    if missing := [call for call in waiting if call not in results]:
        raise ApiError(
            f"The call {missing[0]!r} has no result: every call needs a message of the role tool.", param=where
        )
    return (Message("tool", _whole(results[call]) or NOTHING, results[call]) for call in waiting)


def _call(call: ToolCall, where: str) -> Call:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise ApiError(
            f"The arguments of the call {call.id!r} must be a JSON object as text.", param=f"{where}.tool_calls"
        )
    return Call(name=call.function.name, arguments=clean(arguments, f"{where}.tool_calls"))


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
