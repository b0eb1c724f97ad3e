"""What is told of the state of things: memory, tiers, the daemon, models. The panels and the commands show it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assistant.protocol import Flag, Wire, WorkerState

SERVER = "server"
"""The `device` of a model that a server runs."""


class MemorySplit(Wire):
    """Where the budget goes, in bytes. `peak` is measured, the others are allocated or reserved."""

    budget: int = 0
    weights: int = 0
    kv: int = 0
    staging: int = 0
    activations: int = 0
    peak: int = 0
    capacity_tokens: int = 0
    resident_tokens: int = 0
    stored_tokens: int = 0
    device: str = "none"
    quant: str = "none"
    ram: int = 0
    """The RAM tier, where it lies in the same memory (no GPU)."""
    process: int = 0
    """What the process itself may grow by beside tensors."""
    working_set_tokens: int = 0
    """Entries that stay when a block must make room (`capacity_tokens` includes the room for it)."""
    estimated: bool = False
    """No model is loaded: `weights` and the rest follow from its shape alone."""

    @property
    def elsewhere(self) -> bool:
        """Whether a server runs the model, so that nothing of it is here."""
        return self.device == SERVER

    @property
    def where(self) -> str:
        """For people: what computes, and how the weights lie there."""
        return "on a server" if self.elsewhere else f"{self.device}, weights {self.quant}"


class TierUse(Wire):
    """Bytes of one tier by purpose, and what the tier holds in all as measured; `limit` is what it may hold.

    `conversations` divides what belongs to one among them.
    """

    parts: dict[str, int] = Field(default_factory=dict)
    total: int = 0
    limit: int | None = None
    conversations: dict[str, int] = Field(default_factory=dict)

    @property
    def gap(self) -> int:
        """Bytes that no part accounts for (negative: set aside, not in use)."""
        return self.total - sum(self.parts.values())


class ResidentSet(Wire):
    """One working set on the device."""

    conversation: str
    tokens: int
    entries: int
    bytes: int
    state: Literal["active", "waiting"]
    least: int | None = None
    """Entries of the layer that holds least, where `entries` are those of the layer that holds most."""
    pinned_by: str | None = None
    """The tool (or `user`) that its program waits for: until then others leave the device first."""
    pinned_s: float | None = None
    """Seconds that the pin still lasts."""


class StoredUse(Wire):
    """What a conversation stores on disk: bytes of its `own`, and those that it shares with what it was forked from."""

    conversation: str
    own: int
    shared: int
    origin: str | None = None
    """Name of the conversation that it was forked from, while there is one."""


class Outside(Wire):
    """What the budget does not cover, in bytes: without a GPU of the worker's process, with one of the whole GPU.

    `seen` is in use as the operating system or the driver says, `parts` what of it is not ours to count, `capacity` all
    there is.
    """

    seen: int
    parts: dict[str, int]
    capacity: int


class KvStatus(Wire):
    """Where the KV of all conversations lies; counters count since the model was loaded."""

    device: TierUse = Field(default_factory=TierUse)
    ram: TierUse = Field(default_factory=TierUse)
    disk: TierUse = Field(default_factory=TierUse)
    sets: list[ResidentSet] = Field(default_factory=list)
    layers: list[int] = Field(default_factory=list)
    """Entries that each layer without a sliding window can hold, where they differ."""
    stored: list[StoredUse] = Field(default_factory=list)
    """Every conversation of which anything is stored, and the forks of which nothing is yet."""
    counters: dict[str, int] = Field(default_factory=dict)
    spilling: bool = False
    notice: str | None = None
    outside: Outside | None = None
    row_bytes: int = 0
    """Bytes that 64 sealed tokens take on disk."""


class KvCheck(Wire):
    """What verifying every stored row found; `problems` are sentences."""

    files: int
    rows_ok: int
    rows_bad: int
    bytes: int
    problems: list[str]
    repaired: bool


class DaemonStatus(Wire):
    """GET /api/status."""

    version: str
    protocol: int
    pid: int
    started: str
    uptime_s: float
    socket: str
    listen: str | None = None
    """Where it listens on TCP, if anywhere."""
    worker_pid: int | None
    worker_state: WorkerState
    worker_failure: str | None = None
    """How the last worker died ("was ended by SIGKILL"), until another one has finished a reply."""
    model: str | None
    queue: int
    memory: MemorySplit


class LoadedModel(Wire):
    """The model that a worker holds: where its bytes lie, who is resident, and how long it stays.

    `expires_s` counts down from the last reply; None while a reply is written or waits, and when it stays for ever.
    `until` is the same as a moment.
    """

    model: str | None
    quant: str
    device: str
    worker_pid: int
    state: Literal["starting", "ready", "busy"]
    memory: MemorySplit
    resident: list[ResidentSet]
    for_ever: bool
    expires_s: float | None
    until: str | None


class PsReport(Wire):
    """GET /api/ps: what is loaded (at most one model), how many requests wait, and why some of it is not known."""

    models: list[LoadedModel]
    queue: int
    notice: str | None = None


class Unloaded(Wire):
    """POST /api/unload: whether the worker has ended; if not, it ends when the `pending` requests have."""

    unloaded: bool
    pending: int


class MemoryReport(Wire):
    """GET /api/memory: where every byte lies, by tier and purpose. Conversations go by their names."""

    model: str | None
    memory: MemorySplit
    kv: KvStatus


class CheckRequest(Wire):
    """POST /api/kv/check."""

    repair: Flag = False


class ModelStatus(Wire):
    """GET /api/models: one catalogue entry and whether it can be loaded now."""

    id: str
    present: bool
    download_bytes: int | None
    default: bool = False
    verdict: str | None = None
    """Whether it fits the budget on this machine, as a sentence with an estimate; only where that was asked for."""


class PullProgress(Wire):
    """One line of `assistant models pull ID --json`; `done_bytes` never falls within a stage."""

    event: Literal["pull"] = "pull"
    id: str
    stage: Literal["download", "verify", "convert", "done"]
    done_bytes: int
    total_bytes: int | None
    rate: float | None = None
    eta_s: float | None = None
    path: str | None = None
