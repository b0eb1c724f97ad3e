"""Selection policies by name: the one table that engine, tests and docs iterate."""

from __future__ import annotations

from memory.policy.base import LayerView, Policy, Protection, select
from memory.policy.patched_prompt import PatchedPrompt
from memory.policy.sinks_recent import SinksRecent

POLICIES: dict[str, type[Policy]] = {"sinks_recent": SinksRecent, "patched_prompt": PatchedPrompt}

__all__ = ["POLICIES", "LayerView", "Policy", "Protection", "select"]
