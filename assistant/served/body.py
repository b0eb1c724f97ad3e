"""A request as a server gets it."""

from __future__ import annotations

from typing import Any

from assistant.orders import Run
from assistant.protocol import Calling, Sampling
from assistant.served.messages import Message

_EXTRAS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Parameters that OpenAI has no name for, and their values that change nothing."""

_ORDINARY = Sampling()


def body_of(model: str, request: Run, messages: list[Message], max_tokens: int) -> dict[str, Any]:
    """The body of a streamed chat completion.

    What OpenAI has no name for among the parameters is sent where it was chosen and changes something: some servers
    know it, and others say that they do not.
    """
    sampling = request.sampling
    assert sampling is not None
    body = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": max_tokens,
        "seed": sampling.seed,
        "stop": sampling.stop or None,
    }
    for name, nothing in _EXTRAS.items():
        if (value := getattr(sampling, name)) not in (nothing, getattr(_ORDINARY, name)):
            body[name] = value
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.calling is not None:
        body |= _calling(request.calling)
    return {name: value for name, value in body.items() if value is not None}


def _calling(calling: Calling) -> dict[str, Any]:
    """Tools, which of them may be called, and what the reply must look like."""
    body: dict[str, Any] = {}
    tools = [tool for tool in calling.tools if calling.only is None or tool.name in calling.only]
    if tools:
        body["tools"] = [{"type": "function", "function": tool.model_dump()} for tool in tools]
        body["tool_choice"] = _choice(calling)
        body["parallel_tool_calls"] = False if calling.one else None
    if calling.answer is not None:
        schema = {"name": "answer", "schema": calling.answer}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _choice(calling: Calling) -> str:
    if not calling.may_call:
        return "none"
    return "required" if calling.must_call else "auto"
