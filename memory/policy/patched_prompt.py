"""Keep what a patch attends to: a generic instruction for facts worth keeping (EpiCache, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from memory.policy.base import Base, LayerView, Policy, Queries, most_attention

INSTRUCTION = (
    "\nList what is worth remembering from the conversation above: who each person is, what happened and when, "
    "plans, preferences, promises, opinions, numbers and names.\n"
)


@dataclass(frozen=True)
class PatchedPrompt(Policy):
    """Score = the most attention any query of the patch pays to an entry, over the query group of its KV head.

    Once rows are stored, every turn begins with what the patch attends to of all of them.
    """

    patch: str | None = INSTRUCTION
    queries: Queries = "patch"
    base: Base = "patch"

    def score(self, layer: LayerView) -> Tensor:
        """The most attention that any query pays, [KV heads, entries]."""
        return most_attention(layer)
