"""The shapes of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from assistant.daemon.v1.wire import (
    MOST_MESSAGES,
    CachedTokens,
    Decoding,
    Function,
    Input,
    JsonSchema,
    Logprob,
    NoReasoning,
    Part,
    Spent,
    Text,
)
from assistant.protocol import MaxTokens, Name, Stop, Stops


class CalledFunction(Input):
    """A call as it stands in a message: `arguments` is JSON as text."""

    name: str = Field(min_length=1, max_length=64)
    arguments: Text


class ToolCall(Input):
    """A call in a message of the assistant."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Input):
    """A message of a request."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    tool_calls: list[ToolCall] | None = Field(None, max_length=128)
    tool_call_id: str | None = Field(None, max_length=200)


class FunctionTool(Input):
    """A tool of a request."""

    type: Literal["function"]
    function: Function


class FunctionName(Input):
    """A tool by its name."""

    name: str


class NamedTool(Input):
    """A tool that must be called, or one of those that may be."""

    type: Literal["function"]
    function: FunctionName


class Allowed(Input):
    """The tools that may (`auto`) or must (`required`) be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=128)


class AllowedTools(Input):
    """A choice among the tools that leaves the prompt as it is."""

    type: Literal["allowed_tools"]
    allowed_tools: Allowed


class TextFormat(Input):
    """A reply in words, or in any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Input):
    """A reply that follows a JSON schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(Input):
    """What a stream tells besides the reply."""

    include_usage: bool | None = None


ToolChoice = Literal["auto", "none", "required"] | Annotated[NamedTool | AllowedTools, Field(discriminator="type")]


class ChatRequest(Decoding):
    """POST /v1/chat/completions. `conversation` is ours: the name of a conversation with long memory."""

    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {
            "metadata",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning_effort",
            "safety_identifier",
            "service_tier",
            "store",
            "user",
            "verbosity",
        }
    )
    WITHOUT_EFFECT: ClassVar[dict[str, tuple[Any, ...]]] = {
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "modalities": (["text"],),
        "n": (1,),
        "functions": ([],),
        "function_call": (),
        "audio": (),
        "moderation": (),
        "web_search_options": (),
    }

    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    stop: Stop | Stops | None = None
    logprobs: bool | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=128)
    tool_choice: ToolChoice | None = None
    response_format: Annotated[TextFormat | SchemaFormat, Field(discriminator="type")] | None = None
    conversation: Name | None = None


FinishReason = Literal["stop", "length", "tool_calls"]


class Logprobs(BaseModel):
    """The logprobs of a text, token by token."""

    content: list[Logprob]


class WrittenFunction(BaseModel):
    """A call that a reply makes."""

    name: str
    arguments: str


class WrittenCall(BaseModel):
    """A call that a reply makes, with the id that its result is to have."""

    id: str
    type: Literal["function"] = "function"
    function: WrittenFunction


class ChatReply(BaseModel):
    """What was written; `content` is null where nothing is said beside calls."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[WrittenCall] | None = None


class Choice(BaseModel):
    """The one reply."""

    index: Literal[0]
    message: ChatReply
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ChatUsage(BaseModel):
    """Tokens of prompt and reply."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: NoReasoning


class ChatCompletion(BaseModel):
    """The answer to a request that does not stream. `assistant` is ours."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    assistant: Spent
