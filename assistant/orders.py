"""What the daemon asks of the worker, and what the worker answers: JSON lines over the worker's standard streams."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from assistant.protocol import (
    Alternatives,
    Calling,
    Episodes,
    Evicted,
    Failed,
    Finish,
    KvCodec,
    Layers,
    Loading,
    Mode,
    Notice,
    Piece,
    Prefill,
    Quant,
    Resumed,
    Role,
    Sampling,
    Switched,
    Usage,
    Wire,
    Written,
)
from assistant.reports import KvCheck, KvStatus, MemorySplit


class KvSpec(Wire):
    """Where sealed KV is kept, and how much of it; sizes in bytes."""

    folder: str
    codec: KvCodec = "int8"
    ram: int | None = Field(None, ge=0)
    disk: int = Field(ge=0)
    reserve: int | None = Field(None, ge=0)


class ServerSpec(Wire):
    """A server that speaks OpenAI's API and runs the model: where, which of its models, what lets us in."""

    url: str
    model: str = ""
    """Empty: the first that the server lists."""
    key_env: str | None = None
    key_file: str | None = None
    context: int | None = Field(None, ge=1)
    """Tokens that prompt and reply may have; None: as the server says."""


class ModelSpec(Wire):
    """What the worker loads: a folder with config.json, *.safetensors and tokenizer files; or whom it asks."""

    id: str
    path: str
    server: ServerSpec | None = None
    """Who runs the model; `path` is empty then."""
    quant: Quant = "auto"
    budget: str | None = None
    policy: str = "recall"
    block: int = Field(256, ge=1, le=8192)
    threads: int | None = Field(None, ge=1, le=1024)
    mode: Mode = "auto"
    layers: Layers = "uniform"
    alpha: float = Field(2.0, ge=0.0, le=16.0, allow_inf_nan=False)
    kv: KvSpec | None = None


class WorkerTurn(Wire):
    """A turn with its recorded token ids (template text in front of it included), or None when it was never read."""

    id: int
    role: Role
    text: str
    token_ids: list[int] | None = None
    created: str | None = None


class Run(Wire):
    """Read `turns` and write the reply `reply_id`; `sampling` None reads only (an import)."""

    op: Literal["run"] = "run"
    id: str
    spec: ModelSpec
    conversation: str
    turns: list[WorkerTurn]
    reply_id: int | None = None
    sampling: Sampling | None = None
    origins: list[str] = Field(default_factory=list)
    """Ids of the conversations that this one was forked from, nearest first."""
    calling: Calling | None = None
    pins: list[str] = Field(default_factory=list)
    """Ids of conversations whose working sets should stay on the device, the one to let go of last first."""
    share: bool = False
    """Whether what is stored of any other conversation may serve, where the text begins alike."""
    logprobs: Alternatives | None = None
    """So many likeliest tokens are told beside each one that is chosen; None: none, and nothing of that one either."""


class Cancel(Wire):
    """End the running request with finish "cancelled"; unknown ids are ignored."""

    op: Literal["cancel"] = "cancel"
    id: str


class Status(Wire):
    op: Literal["status"] = "status"
    id: str


class Forget(Wire):
    """Remove everything that is kept of a conversation in the KV folder, and drop it from the device."""

    op: Literal["forget"] = "forget"
    id: str
    folder: str
    conversation: str
    heirs: dict[str, list[int]] = Field(default_factory=dict)
    """Conversations that were forked from it, with the token ids of their text: they keep what they begin with."""


class Check(Wire):
    """Verify every stored row; `repair` removes what is damaged, so that it is read again."""

    op: Literal["check"] = "check"
    id: str
    folder: str
    repair: bool = False


class Explain(Wire):
    """Which episodes a conversation has, and how its questions were routed."""

    op: Literal["explain"] = "explain"
    id: str
    folder: str
    conversation: str


class Plan(Wire):
    """What a budget would come to for the loaded model; nothing is loaded or allocated."""

    op: Literal["plan"] = "plan"
    id: str
    budget: str


class Embed(Wire):
    """Vectors of texts by the embedding model; no language model needs to be loaded."""

    op: Literal["embed"] = "embed"
    id: str
    texts: list[str]


class Quit(Wire):
    """End; what waits to be written is written first."""

    op: Literal["quit"] = "quit"


Aside = Status | Forget | Check | Explain | Plan | Embed
"""Requests that are answered beside the reply that is being written."""
Request = Annotated[Run | Cancel | Aside | Quit, Field(discriminator="op")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class WorkerDone(Wire):
    """The end of a Run. `token_ids` maps turn id → ids of every turn that was read for the first time."""

    event: Literal["worker_done"] = "worker_done"
    text: str
    finish: Finish
    usage: Usage
    token_ids: dict[int, list[int]]
    memory: MemorySplit
    written: Written | None = None
    """Present when the request had `calling`."""
    resident: list[str] = Field(default_factory=list)
    """Ids of the conversations whose working sets are on the device."""


class WorkerStatus(Wire):
    event: Literal["worker_status"] = "worker_status"
    model: str | None
    memory: MemorySplit
    kv: KvStatus | None = None


class Forgotten(Wire):
    event: Literal["forgotten"] = "forgotten"


class Checked(Wire):
    event: Literal["checked"] = "checked"
    report: KvCheck


class Explained(Wire):
    event: Literal["explained"] = "explained"
    episodes: Episodes


class Planned(Wire):
    event: Literal["planned"] = "planned"
    memory: MemorySplit


class Embedded(Wire):
    """One unit vector for each text, and the tokens that were read."""

    event: Literal["embedded"] = "embedded"
    vectors: list[list[float]]
    tokens: int


WorkerEvent = Annotated[
    Loading
    | Resumed
    | Notice
    | Switched
    | Evicted
    | Prefill
    | Piece
    | WorkerDone
    | WorkerStatus
    | Forgotten
    | Checked
    | Explained
    | Planned
    | Embedded
    | Failed,
    Field(discriminator="event"),
]


class WorkerLine(Wire):
    """One line from the worker: the id of the request it answers, and what happened."""

    id: str
    body: WorkerEvent
