"""Selection policies by name: the one table that engine, tests and docs iterate."""

from __future__ import annotations

from memory.policy.base import LayerView, Policy, Protection, Queries, probabilities, select
from memory.policy.episodic import Episodic
from memory.policy.h2o import H2O
from memory.policy.hybrid import Hybrid
from memory.policy.keydiff import KeyDiff
from memory.policy.patched_prompt import PatchedPrompt
from memory.policy.recall import Recall
from memory.policy.sentence import Sentence
from memory.policy.sinks_recent import SinksRecent
from memory.policy.snapkv import SnapKV
from memory.policy.tova import Tova

POLICIES: dict[str, type[Policy]] = {
    "sinks_recent": SinksRecent,
    "h2o": H2O,
    "snapkv": SnapKV,
    "tova": Tova,
    "keydiff": KeyDiff,
    "patched_prompt": PatchedPrompt,
    "episodic": Episodic,
    "sentence": Sentence,
    "recall": Recall,
    "hybrid": Hybrid,
}

__all__ = ["POLICIES", "LayerView", "Policy", "Protection", "Queries", "probabilities", "select"]
