"""The wire types: what client and daemon say to each other over HTTP and SSE about conversations, programs and events.

Daemon and worker speak in `assistant.orders`; how things are is told in `assistant.reports`. Every number that comes
from outside is bounded here, once. Nothing in this file imports torch or what is heavy of ours.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
)

from assistant.duration import GRAMMAR, LONGEST

PROTOCOL = 5
"""Bumped whenever client and daemon of two builds would misunderstand each other."""

MAX_TEXT = 4 * 1024 * 1024
"""Longest text of one turn, in characters."""

LARGEST = 2**53 - 1
"""The largest integer that every reader of JSON keeps as it is."""

DEEPEST = 64
"""How deep objects and lists from outside may be nested."""

Role = Literal["system", "user", "assistant", "transcript", "tool"]
TurnState = Literal["pending", "done", "interrupted"]
Quant = Literal["auto", "none", "fp16", "int8", "nf4"]
Mode = Literal["auto", "exact", "bounded"]
Attended = Literal["exact", "recall", "bounded"]
"""What tokens attended to: everything before them, what was recalled for them, or what a policy kept."""
Finish = Literal["stop", "length", "cancelled", "read"]
WorkerState = Literal["none", "starting", "ready", "busy"]
KvCodec = Literal["lossless", "int8", "int4"]
Layers = Literal["uniform", "pyramid", "drafter_refiner", "sensitivity"]
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_SIZE = (
    r"^([1-9][0-9]{0,14}|([1-9][0-9]{0,5}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9]) ?[kKmMgG]([iI]?[bB])?"
    r"|[1-9][0-9]{0,2}(\.[0-9]{1,3})? ?[tT]([iI]?[bB])?)$"
)
Size = Annotated[str, Field(max_length=32), WithJsonSchema({"type": "string", "maxLength": 32, "pattern": _SIZE})]
"""A number of bytes with its unit, for example "900MiB"; `memory.budget.parse_size` reads it."""
Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]

DEVICE_LOST = 75
"""Exit code of a worker whose device cannot be used any more: only a new process gets it back."""


def _is_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("write a number")
    return value


def _is_written(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value)):
        return value
    raise ValueError("write a date and a time with its zone, for example 2024-05-01T10:00:00Z")


def _is_json(value: dict[str, Any]) -> dict[str, Any]:
    if not _is_shallow(value, DEEPEST):
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise ValueError("it holds NaN, an infinite number or half a surrogate pair") from None
    return value


def _is_shallow(value: object, left: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_is_shallow(one, left - 1) for one in inner)


NUMBER = BeforeValidator(_is_number)
"""Beside the bounds of a number: neither "7" nor true is one."""
KeepAlive = (
    Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False), NUMBER]
    | Annotated[str, Field(max_length=LONGEST, pattern=GRAMMAR)]
)
"""How long the model stays loaded after a reply (`assistant.duration`)."""
Flag = Annotated[bool, Field(strict=True)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_is_json)]
"""Any object that can be written as JSON in UTF-8."""
Moment = Annotated[AwareDatetime, BeforeValidator(_is_written)]
TurnId = Annotated[int, Field(ge=1, le=LARGEST), NUMBER]


class Wire(BaseModel):
    """Base of all wire types: unknown fields are refused on the way in."""

    model_config = ConfigDict(extra="forbid")


TEMPERATURE = Field(ge=0.0, le=2.0, allow_inf_nan=False)
TOP_P = Field(gt=0.0, le=1.0, allow_inf_nan=False)
TOP_K = Field(ge=0, le=100_000)
MIN_P = Field(ge=0.0, le=1.0, allow_inf_nan=False)
REPETITION_PENALTY = Field(ge=0.5, le=2.0, allow_inf_nan=False)
SEED = Field(ge=0, le=LARGEST)
MAX_TOKENS = Field(ge=1, le=32_768)
Temperature = Annotated[float, TEMPERATURE, NUMBER]
TopP = Annotated[float, TOP_P, NUMBER]
TopK = Annotated[int, TOP_K, NUMBER]
MinP = Annotated[float, MIN_P, NUMBER]
RepetitionPenalty = Annotated[float, REPETITION_PENALTY, NUMBER]
Seed = Annotated[int, SEED, NUMBER]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Stops = Annotated[list[Stop], Field(max_length=16)]
MaxTokens = Annotated[int, MAX_TOKENS, NUMBER]
Alternatives = Annotated[int, Field(ge=0, le=20), NUMBER]
"""How many likely tokens are told beside each one that is chosen."""


class Sampling(Wire):
    """Decoding parameters of one reply. `temperature` 0 is greedy; the repetition penalty counts the reply only."""

    temperature: Temperature = 0.2
    top_p: TopP = 0.9
    top_k: TopK = 0
    min_p: MinP = 0.0
    repetition_penalty: RepetitionPenalty = 1.1
    seed: Seed | None = None
    stop: Stops = Field(default_factory=list)
    max_tokens: MaxTokens = 512


class Engine(Wire):
    """Which model runs, and in how much memory. `None` means: as the daemon's settings say."""

    model: str | None = Field(None, max_length=512)
    budget: Size | None = None
    quant: Quant | None = None
    policy: str | None = Field(None, max_length=40)
    mode: Mode | None = None


class ToolSpec(Wire):
    """What the model is told of a tool: `parameters` is the JSON schema of an object."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    description: str = Field(max_length=8192)
    parameters: JsonObject


class Calling(Wire):
    """Which tools a reply may call, in the order in which the template shows them, and what else it must look like.

    `constrained`: only tokens that keep a call readable are sampled once one has begun. `answer`: JSON schema of a
    reply that calls nothing; None leaves its text free.
    """

    tools: list[ToolSpec] = Field(default_factory=list, max_length=128)
    constrained: Flag = True
    answer: JsonObject | None = None
    may_call: Flag = True
    """Whether this reply may call anything; the tools are shown either way, so that the prompt stays the same."""
    must_call: Flag = False
    """Whether this reply is calls and nothing else; only while it is `constrained`."""
    only: list[str] | None = Field(None, max_length=128)
    """Names of the tools that this reply may call; None: any."""
    one: Flag = False
    """Whether this reply holds one call at most."""


class Call(Wire):
    """A call as the model wrote it, its arguments checked against the tool's schema."""

    name: str
    arguments: dict[str, Any]


class Written(Wire):
    """A reply taken apart: what it says, what it calls, and for the model why some of it cannot be called."""

    text: str
    calls: list[Call] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)


class Receipt(Wire):
    """What reopening a conversation took: tokens reused, and those read again with the reason and the cost."""

    seconds: float
    reused: int
    recomputed: int
    source: Literal["resident", "disk", "none"]
    reason: str | None = None
    recompute_s: float | None = None
    """Measured seconds that reading the recomputed tokens again took; None until they are read."""

    def sentence(self) -> str:
        """For people: "resumed in 0.31 s: 11,842 tokens reused, 0 recomputed", and why if it is more."""
        told = f"resumed in {self.seconds:.2f} s: {self.reused:,} tokens reused, {self.recomputed:,} recomputed"
        cost = f" ({self.recompute_s:.1f} s)" if self.recompute_s is not None else ""
        return f"{told}{cost}: {self.reason}" if self.recomputed else told


class Usage(Wire):
    """The usage record of a reply (design §5). Times in seconds, sizes in bytes, the rest in tokens."""

    prompt_tokens: int
    cached_tokens: int
    computed_tokens: int
    completion_tokens: int
    resident_tokens: int
    stored_tokens: int
    episode: str | None
    recalled_tokens: int
    ttft_s: float
    decode_tok_s: float | None
    peak_bytes: int
    budget_bytes: int
    mode: Attended
    recomputed_tokens: int = 0
    """Of `computed_tokens`, those that an earlier reply had already read once."""
    recompute_reason: str | None = None
    receipt: Receipt | None = None
    """Present when the conversation had been read before."""
    queued_s: float = 0.0
    """Seconds that the request waited for others; `ttft_s` begins after them."""


class Turn(Wire):
    """One turn as the history holds it, without its token ids."""

    id: int
    role: Role
    text: str
    state: TurnState
    created: str
    usage: Usage | None = None
    version: int = 1
    versions: int = 1
    """This is one of so many turns of its role after the same turn."""
    parent: int | None = None
    shown: bool = True
    """Whether it is on the path that its conversation shows."""


class Conversation(Wire):
    """One row of the conversation list; `turns` counts those of the path that it shows."""

    id: str
    name: str
    title: str
    turns: int
    created: str
    updated: str
    pinned: bool = False
    archived: bool = False
    origin: str | None = None
    """Name of the conversation that it was forked from, while there is one."""
    removed: str | None = None
    """When it was put away; it can be restored for 30 days."""


class ConversationChange(Wire):
    """PATCH /api/conversations/{name}: what is None stays. `system` only while nothing but it was said."""

    name: Name | None = None
    title: str | None = Field(None, min_length=1, max_length=200)
    pinned: Flag | None = None
    archived: Flag | None = None
    system: str | None = Field(None, max_length=MAX_TEXT)


class ChooseRequest(Wire):
    """POST /api/conversations/{name}/choose: show the path through this turn."""

    turn: TurnId


class ForkRequest(Wire):
    """POST /api/conversations/{name}/fork: up to and including `turn` (None: all), under `name` (None: a free one)."""

    turn: TurnId | None = None
    name: Name | None = None


class RestoreRequest(Wire):
    """POST /api/conversations/{name}/restore: bring back what was put away, under `name` (None: the one it had)."""

    name: Name | None = None


class Removed(Wire):
    """Names of conversations that were removed for good."""

    names: list[str]


class Hit(Wire):
    """One full-text search hit; `snippet` marks matches with [ and ]."""

    conversation: str
    turn_id: int
    role: Role
    snippet: str
    created: str


class AskRequest(Wire):
    """POST /api/conversations/{name}/ask; the conversation is created when it does not exist."""

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    sampling: Sampling = Field(default_factory=Sampling)
    engine: Engine = Field(default_factory=Engine)
    system: str | None = Field(None, max_length=MAX_TEXT)
    replaces: TurnId | None = None
    """A user turn that the text becomes another version of; with the same text, another reply to it is written."""
    keep_alive: KeepAlive | None = None
    detach: Flag = False
    """Whether the reply goes on when the client goes away; it is in the history, like any other."""


class NewTurn(Wire):
    """One imported turn, text ready to be shown and read; `created` is when it was said, None: nobody knows."""

    role: Role
    text: str = Field(min_length=1, max_length=MAX_TEXT)
    created: Moment | None = None


class ImportRequest(Wire):
    """POST /api/conversations/{name}/import: store the turns, then read them into memory (prefill)."""

    turns: list[NewTurn] = Field(min_length=1, max_length=200_000)
    engine: Engine = Field(default_factory=Engine)


class StoreRequest(Wire):
    """POST /api/conversations/{name}/turns: store the turns; they are read into memory with the next question."""

    turns: list[NewTurn] = Field(min_length=1, max_length=200_000)


class SegmentTurn(Wire):
    """One turn of a segment; its tokens are `first_token` to `last_token` (exclusive), `text` may be shortened."""

    turn: int
    speaker: str
    date: str | None
    text: str
    first_token: int
    last_token: int


class Segment(Wire):
    """Four consecutive turns (the last ones may be fewer); `episode` is None while it belongs to none."""

    segment: int
    turns: list[SegmentTurn]
    episode: int | None
    similarity: float | None


class RecalledSpan(Wire):
    """Tokens `first` to `last` (exclusive) that a reply fetched: how many entries, and their share of attention."""

    first: int
    last: int
    tokens: int
    mass: float


class Recalled(Wire):
    """What a reply fetched of what was not resident.

    `missed`: share of attention on what was looked at and stayed away; `bound`: the most it can be with what nobody
    looked at. Both are means over the choices that were noted.
    """

    spans: list[RecalledSpan]
    missed: float | None
    bound: float | None = None
    exact_steps: int
    steps: int
    moved: int = 0


class NearSegment(Wire):
    """A segment by number, and its cosine to a question."""

    segment: int
    similarity: float


class Route(Wire):
    """Where a question went: the nearest episode, and the one after it. Similarities are cosines.

    `switched`: the question before went elsewhere; `new`: no episode is near. `number` counts the questions. `nearest`
    are the segments most similar to the question, whatever their episode.
    """

    turn: int
    number: int
    asked: str
    episode: int | None
    similarity: float | None
    runner_up: int | None
    runner_up_similarity: float | None
    switched: bool
    new: bool
    nearest: list[NearSegment] = Field(default_factory=list)
    recalled: Recalled | None


class Episodes(Wire):
    """GET /api/conversations/{name}/episodes: topics of a conversation, and how its questions were routed.

    `titles` names every episode there ever was. `residency` is the share of each 64 tokens that lies on the device,
    None unless the conversation is the one there now. `notice` says why there are no (new) episodes. `stored` counts
    the tokens from the beginning whose KV lies on disk, None where nobody knows; `threshold` is the similarity below
    which no episode counts as near.
    """

    segments: list[Segment] = Field(default_factory=list)
    titles: dict[int, str] = Field(default_factory=dict)
    routes: list[Route] = Field(default_factory=list)
    residency: list[float] | None = None
    notice: str | None = None
    stored: int | None = None
    threshold: float | None = None


ProgramState = Literal["running", "done", "failed", "stopped", "denied"]
CallState = Literal["asked", "running", "done", "failed", "denied"]
Urgency = Literal["agent", "batch"]


class ProgramRequest(Wire):
    """POST /api/programs: an agent run. Its conversation gets `name`, or one made of the id.

    `tools` stay as they are for the whole run, in this order; `about` is the agent's own record (what it has seen, its
    limits), given back to one who resumes it.
    """

    task: str = Field(min_length=1, max_length=MAX_TEXT)
    tools: list[ToolSpec] = Field(default_factory=list, max_length=128)
    system: str | None = Field(None, max_length=MAX_TEXT)
    name: Name | None = None
    about: JsonObject = Field(default_factory=dict)


class ProgramChange(Wire):
    """PATCH /api/programs/{id}: what is None stays. A program that goes on is `running` again."""

    state: ProgramState | None = None
    reason: str | None = Field(None, max_length=1000)
    about: JsonObject | None = None


class StepRequest(Wire):
    """POST /api/programs/{id}/step: the results of the last calls are stored as turns, then the next reply is written.

    A reply that was interrupted is written again. `text` is said to the model first, in the role of a tool.
    """

    sampling: Sampling = Field(default_factory=Sampling)
    engine: Engine = Field(default_factory=Engine)
    text: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    constrained: Flag = True
    answer: JsonObject | None = None
    may_call: Flag = True
    urgency: Urgency = "agent"
    keep_alive: KeepAlive | None = None


class CallChange(Wire):
    """POST /api/programs/{id}/calls/{call}: the tool runs now, or how it ended (then with what the model reads)."""

    state: Literal["running", "done", "failed", "denied"]
    result: str | None = Field(None, max_length=MAX_TEXT)


class CallRow(Wire):
    """A call as the history holds it; `seconds` is how long its tool ran."""

    id: int
    turn: int
    tool: str
    arguments: dict[str, Any]
    state: CallState
    result: str | None = None
    seconds: float | None = None


class Program(Wire):
    """An agent run: `calls` are those of its last reply, `steps` counts its finished replies."""

    id: str
    conversation: str
    task: str
    tools: list[ToolSpec]
    about: dict[str, Any]
    state: ProgramState
    reason: str | None
    created: str
    updated: str
    steps: int
    calls: list[CallRow] = Field(default_factory=list)


class ApprovalRow(Wire):
    """POST /api/approvals, GET /api/approvals: one decision on a call; `record` is the agent's own."""

    tool: str = Field(min_length=1, max_length=64)
    record: JsonObject
    program: str | None = None
    created: str | None = None


class Version(Wire):
    """GET /version: what a client checks before anything else."""

    version: str
    protocol: int
    pid: int


# --- events: daemon → client as SSE; worker → daemon as JSON lines ---------------------------------------------------


class Accepted(Wire):
    """The user's turn is committed; from here on it cannot be lost."""

    event: Literal["accepted"] = "accepted"
    conversation: str
    turn_id: int
    reply_id: int | None


class Queued(Wire):
    event: Literal["queued"] = "queued"
    position: int


class Loading(Wire):
    """The model is being loaded; bytes are those of the weight files."""

    event: Literal["loading"] = "loading"
    model: str
    done_bytes: int
    total_bytes: int


class Resumed(Wire):
    """The conversation had been read before: what is reused of it. Comes before the prefill of the rest."""

    event: Literal["resumed"] = "resumed"
    receipt: Receipt


class Notice(Wire):
    """Something the user should know although the request goes on, said once."""

    event: Literal["notice"] = "notice"
    text: str


class Switched(Wire):
    """The question is about another episode than the one before it; `episode` None: about none that is known."""

    event: Literal["switched"] = "switched"
    episode: int | None


class Evicted(Wire):
    """Entries left the working set to make room, so many `times`; what they stand for is on disk, not gone."""

    event: Literal["evicted"] = "evicted"
    times: int
    resident_tokens: int
    stored_tokens: int


class Prefill(Wire):
    event: Literal["prefill"] = "prefill"
    done: int
    total: int
    tok_s: float


class Alternative(Wire):
    """A token as text, and the natural logarithm of the probability that the model gave it."""

    token: str
    logprob: float


class TokenLogprob(Alternative):
    """A token that was chosen, and the likeliest ones in its place: by the model alone, before temperature, penalties
    and grammar."""

    top: list[Alternative] = Field(default_factory=list)


class Piece(Wire):
    """Text as it is written; `logprobs` of the tokens since the piece before, where they were asked for."""

    event: Literal["piece"] = "piece"
    text: str
    logprobs: list[TokenLogprob] | None = None


class Done(Wire):
    """The reply (or the import, then with an empty text) is committed."""

    event: Literal["done"] = "done"
    conversation: str
    reply_id: int | None
    text: str
    finish: Finish
    model: str
    usage: Usage
    written: Written | None = None
    """Present in a step of a program."""


class TooLong(Wire):
    """A text that does not fit: tokens that it needs, and tokens that there are."""

    needed: int
    limit: int


class Failed(Wire):
    """The request ended without a reply. What was written so far is in the history as `interrupted`."""

    event: Literal["error"] = "error"
    message: str
    exit_code: int = 1
    too_long: TooLong | None = None
    """Present when a prompt or a text does not fit."""


Event = Annotated[
    Accepted | Queued | Loading | Resumed | Notice | Switched | Evicted | Prefill | Piece | Done | Failed,
    Field(discriminator="event"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def dump(message: BaseModel) -> str:
    """One JSON line without its newline."""
    return message.model_dump_json()
