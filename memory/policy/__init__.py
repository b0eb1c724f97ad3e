"""Selection policies by name: the one table that engine, tests and docs iterate."""

from __future__ import annotations

from memory.policy.base import LayerView, Policy, Protection, Queries, probabilities, select
from memory.policy.patched_prompt import PatchedPrompt
from memory.policy.recall import Recall
from memory.policy.sinks_recent import SinksRecent

POLICIES: dict[str, type[Policy]] = {
    "sinks_recent": SinksRecent,
    "patched_prompt": PatchedPrompt,
    "recall": Recall,
}

__all__ = ["POLICIES", "LayerView", "Policy", "Protection", "Queries", "probabilities", "select"]
