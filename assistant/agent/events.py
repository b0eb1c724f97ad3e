"""What an agent run says while it goes on, one JSON object a line (docs/agent-events.schema.json).

The first line is `start`, the last one always `result`, also when the run failed. Readers must tolerate fields and
types that they do not know: `schema` is raised only when something that is here changes its meaning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from assistant.protocol import Usage

SCHEMA = 1

Reason = Literal[
    "done",
    "failed",
    "usage",
    "step_limit",
    "token_limit",
    "denied",
    "repeated_call",
    "unreadable_calls",
    "budget",
    "model",
    "daemon",
    "timeout",
    "interrupted",
    "terminated",
]


class ToolSaid(BaseModel):
    """A tool of the run; `digest` is that of its whole definition."""

    name: str
    description: str
    origin: str
    digest: str
    traits: list[str]
    off: str | None = Field(None, description="Why it cannot be called here.")


class Start(BaseModel):
    """The first line."""

    type: Literal["start"] = "start"
    schema_version: int = Field(SCHEMA, alias="schema")
    version: str
    run: str = Field(description="Names the run: assistant agent --resume RUN")
    conversation: str
    model: str
    source: str = Field(description="Where the model comes from, with its revision or version where it has one.")
    tools: list[ToolSaid]
    budget: str | None = Field(description="As asked for; null: the daemon's own.")
    sandbox: str | None = Field(description="What keeps tools in; null: nothing does, and what can write is off.")
    seed: int | None
    resumed: bool = False


class Delta(BaseModel):
    """A piece of a message that is being written; only with --deltas."""

    type: Literal["delta"] = "delta"
    id: str
    text: str


class Message(BaseModel):
    """A finished reply of the model; what it calls follows as items of their own."""

    type: Literal["message"] = "message"
    id: str
    step: int
    text: str
    calls: int
    problems: list[str] = Field(description="Why parts of it could not be called; the model is told.")
    usage: Usage


class CallItem(BaseModel):
    """A call. Its `id` stays the same from `asked` to its end."""

    type: Literal["call"] = "call"
    id: str
    tool: str
    arguments: dict[str, Any]
    state: Literal["asked", "running", "done", "failed", "timeout", "denied", "waiting"] = Field(
        description="`waiting`: it needs approval, and the run ends until it has it."
    )
    result: str | None = Field(None, description="What the model reads of it.")
    seconds: float | None = None
    cut: int = Field(0, description="Characters that were left out of the result.")


class Note(BaseModel):
    """Something a reader may want to know: a place in the queue, a warning."""

    type: Literal["note"] = "note"
    text: str


class Total(BaseModel):
    """Sums over the steps of this invocation, in tokens, seconds and bytes."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed_tokens: int = 0
    completion_tokens: int = 0
    recomputed_tokens: int = 0
    peak_bytes: int = 0
    model_s: float = 0.0
    tools_s: float = 0.0


class Ending(BaseModel):
    """The last line."""

    type: Literal["result"] = "result"
    run: str | None = Field(description="null: it ended before it began.")
    ok: bool
    exit_code: int
    reason: Reason
    text: str = Field(description="The final message, or the sentence that says why there is none.")
    answer: Any = Field(None, description="The final message as JSON, with --output-schema.")
    steps: int = 0
    calls: int = 0
    seconds: float = 0.0
    usage: Total = Field(default_factory=Total)


Event = Annotated[Start | Delta | Message | CallItem | Note | Ending, Field(discriminator="type")]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def line(event: BaseModel) -> str:
    """One JSON line without its newline."""
    return event.model_dump_json(by_alias=True)


def schema() -> dict[str, Any]:
    """The JSON schema of a line of the stream."""
    told = EVENT.json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of `assistant agent`"} | told
