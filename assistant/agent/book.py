"""What was decided about calls, and which of the answers still count.

An answer that is kept speaks of one tool, one pattern of arguments and one definition. When the definition changes,
the answer is void until somebody gives it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from glob import escape
from typing import Any, Literal, Protocol

from assistant.agent.definition import Tool
from assistant.agent.policy import canonical, fits

Scope = Literal["once", "session", "always"]


@dataclass(frozen=True, slots=True)
class Approval:
    """One decision, to be stored. Digests are SHA-256 in hex; `when` is in seconds since 1970.

    `reason` is the machine-readable one of the decision and `rule` the policy rule that made it. `scope` is set where
    a person said yes. `pattern` (a glob for every argument) and `parts` (a digest of each part of the definition) are
    what an answer that is kept goes by.
    """

    tool: str
    digest: str
    arguments: str
    decision: Literal["allow", "deny"]
    reason: str
    rule: str
    when: float
    scope: Scope | None = None
    pattern: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)

    def covers(self, digest: str, arguments: Mapping[str, Any]) -> bool:
        """Whether this answer is also one for a call of the tool with this digest."""
        return (
            self.digest == digest
            and self.pattern.keys() == arguments.keys()
            and all(_fits(pattern, arguments[name]) for name, pattern in self.pattern.items())
        )


class ApprovalBook(Protocol):
    """Where decisions are kept. One book serves one session."""

    def kept(self, tool: str) -> Sequence[Approval]:
        """Answers for the session or for always, given for a tool of this name, the oldest first."""
        ...

    async def record(self, approval: Approval) -> None:
        """Store a decision. A call is not made before this returned."""
        ...


class MemoryBook:
    """A book that lasts as long as the process. Of earlier `records` only the answers for always count."""

    def __init__(self, records: Iterable[Approval] = ()) -> None:
        self.records: list[Approval] = []
        self._kept = [record for record in records if record.scope == "always"]

    def kept(self, tool: str) -> Sequence[Approval]:
        return [record for record in self._kept if record.tool == tool]

    async def record(self, approval: Approval) -> None:
        self.records.append(approval)
        if approval.scope in ("session", "always"):
            self._kept.append(approval)


def exact_pattern(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The pattern that only these arguments fit."""
    return {name: escape(canonical(value)) for name, value in arguments.items()}


def changes(tool: Tool, kept: Sequence[Approval]) -> list[str]:
    """What differs from the definition that was approved last, in words; nothing if this one was ever approved."""
    if not kept or any(approval.digest == tool.digest for approval in kept):
        return []
    parts, before = parts_of(tool), kept[-1].parts
    return [part for part in parts if parts[part] != before.get(part)] or ["source"]


def parts_of(tool: Tool) -> dict[str, str]:
    """A digest for each part of a definition. A digest of the whole that differs in none of them differs in code."""
    parts = {**tool.spec.model_dump(), "traits": asdict(tool.traits), "source": [tool.kind, tool.source]}
    return {
        name: hashlib.sha256(canonical(part).encode("utf-8", "replace")).hexdigest()[:16]
        for name, part in parts.items()
    }


def _fits(pattern: str, value: object) -> bool:
    return pattern == escape(canonical(value)) or fits(pattern, value, cautious=True)
