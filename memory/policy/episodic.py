"""Keep what the patch of the question's episode attends to (EpiCache), chosen from all that is stored."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from memory.policy.base import Base, LayerView, Policy, Queries, most_attention


@dataclass(frozen=True)
class Episodic(Policy):
    """Score = the most attention any query of the episode's patch pays to an entry, over its KV head's query group.

    A turn begins with the best of all stored tokens; a question of another episode moves only the difference. Without
    an episode the latest tokens stay.
    """

    queries: Queries = "patch"
    base: Base = "episode"

    def score(self, layer: LayerView) -> Tensor:
        """The most attention that any query pays, [KV heads, entries]."""
        return most_attention(layer)
