"""Whether a call may be made: what the program has seen, what the policy says, what a person answers.

`authorize` is asked at the one place that executes, and what it returns is the only thing that place accepts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from assistant.agent.book import Approval, ApprovalBook, Scope, changes, exact_pattern, parts_of
from assistant.agent.definition import Tool, Traits
from assistant.agent.permit import Permit, arguments_digest
from assistant.agent.policy import POLICY_FILE, Policy, Rule, Verdict, canonical
from assistant.agent.untrusted import find_invisible, visible
from assistant.errors import AssistantError, Exit, UsageError

Reason = Literal[
    "harmless",  # allowed: it neither sends, writes nor executes
    "rule",  # allowed or asked for: the policy says so
    "flag",  # allowed: --approve names it
    "kept",  # allowed: an earlier answer covers it
    "answer",  # allowed or denied: a person was asked
    "policy",  # denied: the policy says so
    "effects",  # asked for: it can send, write or execute
    "changed",  # asked for: what was approved is not this definition
    "trifecta",  # asked for: private data, untrusted content and a way out would meet
]


@dataclass(frozen=True, slots=True)
class Taint:
    """What the program has seen so far. It only ever grows."""

    private: bool = False
    untrusted: bool = False

    def after(self, traits: Traits) -> Taint:
        """The taint once a tool with these traits was called; from the permit on, not from its result on."""
        return Taint(self.private or traits.reads_private, self.untrusted or traits.brings_untrusted)

    def to_json(self) -> dict[str, bool]:
        """To be stored with the program."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Taint:
        """What `to_json` gave; a part that is missing or no boolean counts as seen."""
        return cls(stored.get("private") is not False, stored.get("untrusted") is not False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided of a call before anybody is asked; `rule` is where the rule that decided it stands."""

    verdict: Verdict
    reason: Reason
    sentence: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A call that needs a person's yes, and why. The sentence can be shown in a terminal as it is."""

    tool: Tool
    arguments: Mapping[str, Any]
    reason: Reason
    sentence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the person said. `pattern` widens an answer that is kept: globs for some arguments, the others exactly."""

    choice: Scope | Literal["deny"]
    reason: str = ""
    pattern: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.choice not in ("once", "session", "always", "deny"):
            raise ValueError(f"{self.choice!r} is no answer: once, session, always or deny")


Approver = Callable[[Question], Awaitable[Answer]]


class Denied(AssistantError):
    """A call that may not be made. With the reason "answer" the text is for the model, which may go on."""

    exit_code = Exit.DENIED

    def __init__(self, message: str, tool: str, reason: Reason) -> None:
        super().__init__(message)
        self.tool = tool
        self.reason = reason


async def authorize(
    tool: Tool,
    arguments: Mapping[str, Any],
    taint: Taint,
    policy: Policy,
    approvals: ApprovalBook,
    *,
    approver: Approver | None,
    approved: Collection[str] = (),
    sandboxed: bool = False,
) -> Permit:
    """Leave to make this call, recorded before it is returned. `approver` None: nobody is there to ask.

    `approved` are the names given with --approve; `sandboxed` says that nothing the tool writes or executes gets out.

    Raises:
        Denied: the policy, the person, or nobody's being there says no.
    """
    permit = Permit(tool.spec.name, tool.digest, arguments_digest(arguments))
    decision = decide(tool, arguments, taint, policy, approvals, approved=approved, sandboxed=sandboxed)
    answer = None
    if decision.verdict == "ask" and approver is not None:
        answer = await approver(Question(tool, arguments, decision.reason, decision.sentence))
    await approvals.record(_record(permit, decision, answer, tool, arguments))
    if answer is not None and answer.choice == "deny":
        because = f": {answer.reason.strip()}" if answer.reason.strip() else "."
        raise Denied(f"The user refused {_call(tool, arguments)}{because}", permit.tool, "answer")
    if answer is None and decision.verdict != "allow":
        advice = f" {_ADVICE[decision.reason].format(name=permit.tool)}" if decision.verdict == "ask" else ""
        raise Denied(decision.sentence + advice, permit.tool, decision.reason)
    return permit


def decide(
    tool: Tool,
    arguments: Mapping[str, Any],
    taint: Taint,
    policy: Policy,
    approvals: ApprovalBook,
    *,
    approved: Collection[str] = (),
    sandboxed: bool = False,
) -> Decision:
    """What holds for a call before anybody is asked. The first of these that applies decides."""
    name, call, rule = tool.spec.name, _call(tool, arguments), policy.rule_for(tool.spec.name, arguments)
    kept = approvals.kept(name)
    if rule is not None and rule.decision == "deny":
        return Decision("deny", "policy", f"The policy denies {call}: {_told(rule)}.", rule.where)
    if completes_trifecta(taint, tool.traits, sandboxed=sandboxed):
        return Decision("ask", "trifecta", f"{call} {_TRIFECTA}")
    if any(approval.covers(tool.digest, arguments) for approval in kept):
        return Decision("allow", "kept", f"{call} was approved before.")
    if name in approved:
        return Decision("allow", "flag", f"{call} is approved by --approve {name}.")
    if differing := changes(tool, kept):
        sentence = f"{call} needs a new approval: since the last one its definition changed ({', '.join(differing)})."
        return Decision("ask", "changed", sentence)
    if rule is not None:
        told = f"The policy {rule.decision}s {'for ' * (rule.decision == 'ask')}{call}: {_told(rule)}."
        return Decision(rule.decision, "rule", told, rule.where)
    if effects := _effects(tool.traits):
        return Decision("ask", "effects", f"{call} needs approval: the tool can {effects}.")
    return Decision("allow", "harmless", f"{call} only reads.")


def completes_trifecta(taint: Taint, traits: Traits, *, sandboxed: bool) -> bool:
    """Whether private data, untrusted content and a way out would meet in this call."""
    seen = taint.after(traits)
    way_out = traits.can_send or (not sandboxed and (traits.can_write or traits.can_exec))
    return seen.private and seen.untrusted and way_out


def screen(tool: Tool) -> None:
    """Refuse a tool that tells the model what a person who reads it cannot see.

    Raises:
        UsageError: an invisible or control character in its name, its description or its parameters.
    """
    for part, content in tool.spec.model_dump().items():
        if hidden := next(filter(None, map(find_invisible, _strings(content))), None):
            raise UsageError(
                f"The tool {visible(tool.spec.name)} ({visible(tool.origin)}) has the invisible character {hidden} in "
                f"its {part}, where it may hide instructions. It is not loaded; take the character out."
            )


_TRIFECTA = (
    "needs a fresh yes: private data, untrusted content and a way out would meet in it, "
    "so what it carries may be what somebody else asked for."
)
_AT_A_TERMINAL = "Nobody is here to ask, and neither --approve nor the policy can say it: resume the run at a terminal."
_ADD_FLAG = f"Nobody is here to ask: run again with --approve {{name}}, or allow it in {POLICY_FILE}."
_ADVICE: dict[Reason, str] = {
    "trifecta": _AT_A_TERMINAL,
    "effects": _ADD_FLAG,
    "rule": "Nobody is here to ask: run again with --approve {name}.",
    "changed": "Nobody is here to ask: read the new definition, then run again with --approve {name}.",
}


def _record(
    permit: Permit, decision: Decision, answer: Answer | None, tool: Tool, arguments: Mapping[str, Any]
) -> Approval:
    scope = None if answer is None or answer.choice == "deny" else answer.choice
    keeps = scope in ("session", "always")
    return Approval(
        tool=permit.tool,
        digest=permit.digest,
        arguments=permit.arguments,
        decision="allow" if scope or decision.verdict == "allow" else "deny",
        reason="answer" if answer else decision.reason,
        rule=decision.rule,
        when=time.time(),
        scope=scope,
        pattern={**exact_pattern(arguments), **answer.pattern} if answer and keeps else {},
        parts=parts_of(tool) if keeps else {},
    )


def _call(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """The call as it would be made, all of it, in characters that can be seen."""
    return visible(f"{tool.spec.name}({canonical(arguments)})")


def _told(rule: Rule) -> str:
    return f"{rule.where}, {rule.reason}".rstrip(".") if rule.reason else rule.where


def _effects(traits: Traits) -> str:
    """What a tool can do besides reading, in words; empty for nothing."""
    words = [("send", traits.can_send), ("write", traits.can_write), ("execute", traits.can_exec)]
    return ", ".join(word for word, can in words if can)


def _strings(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from (str(key), *_strings(value))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _strings(value)
