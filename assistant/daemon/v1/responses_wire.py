"""The shapes of /v1/responses."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from assistant.daemon.v1.errors import ErrorBody
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
from assistant.protocol import MaxTokens, Name


class MessageItem(Input):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]


class CallItem(Input):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=200)
    name: str = Field(min_length=1, max_length=64)
    arguments: Text


class ResultItem(Input):
    """What a call came to."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=200)
    output: Text | list[Part]


class NamedFunction(Input):
    """A tool that must be called, or one of those that may be."""

    type: Literal["function"]
    name: str


class AllowedFunctions(Input):
    """A choice among the tools that leaves the prompt as it is."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedFunction] = Field(min_length=1, max_length=128)


class FunctionTool(Function):
    """A tool of a request."""

    type: Literal["function"]


class PlainFormat(Input):
    """A reply in words, or in any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(JsonSchema):
    """A reply that follows a JSON schema."""

    type: Literal["json_schema"]


class TextOptions(Input):
    """What the text of a reply must look like."""

    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None


class ConversationId(Input):
    """A conversation, as OpenAI's clients may name it."""

    id: Name


ToolChoice = (
    Literal["auto", "none", "required"] | Annotated[NamedFunction | AllowedFunctions, Field(discriminator="type")]
)
Item = ResultItem | CallItem | MessageItem


class ResponseRequest(Decoding):
    """POST /v1/responses. `conversation` is the name of a conversation with long memory."""

    IGNORED: ClassVar[frozenset[str]] = frozenset(
        {
            "max_tool_calls",
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning",
            "safety_identifier",
            "service_tier",
            "store",
            "stream_options",
            "user",
        }
    )
    WITHOUT_EFFECT: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (False,),
        "context_management": ([],),
        "include": ([], ["message.output_text.logprobs"], ["reasoning.encrypted_content"]),
        "prompt": (),
        "truncation": ("disabled", "auto"),  # nothing is ever cut off
    }

    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MOST_MESSAGES)]
    instructions: Text | None = None
    previous_response_id: str | None = Field(None, max_length=200)
    conversation: Name | ConversationId | None = None
    max_output_tokens: MaxTokens | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=128)
    tool_choice: ToolChoice | None = None
    text: TextOptions | None = None


class OutputText(BaseModel):
    """The text of a reply."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[str] = Field(default_factory=list, max_length=0)
    logprobs: list[Logprob] = Field(default_factory=list)


Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputMessage(BaseModel):
    """What a reply says."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Status
    content: list[OutputText]


class OutputCall(BaseModel):
    """What a reply calls."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class InputTokens(CachedTokens):
    """Of the prompt's tokens, those that were not read again; all of the others are kept, which costs nothing."""

    cache_write_tokens: Literal[0] = 0


class ResponseUsage(BaseModel):
    """Tokens of prompt and reply."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: NoReasoning = NoReasoning()
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why a reply ended before its end."""

    reason: Literal["max_output_tokens"]


class Record(BaseModel):
    """What a response tells of its request, and keeps with its reply."""

    model: str
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: int
    temperature: float
    top_p: float
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: Any = "auto"
    parallel_tool_calls: bool = True
    text: dict[str, Any] = Field(default_factory=dict)


class Response(Record):
    """A response. `assistant` is ours: the whole usage record."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    error: ErrorBody | None = None
    incomplete_details: IncompleteDetails | None = None
    output: list[OutputMessage | OutputCall] = Field(default_factory=list)
    usage: ResponseUsage | None = None
    metadata: dict[str, str] = Field(default_factory=dict, max_length=0)
    truncation: Literal["disabled"] = "disabled"
    assistant: Spent | None = None
