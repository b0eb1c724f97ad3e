"""Keep the heavy hitters: what recent queries paid most attention to in sum (H2O, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from memory.policy.base import LayerView, Policy, Queries, probabilities


@dataclass(frozen=True)
class H2O(Policy):
    """Score = attention received from the latest tokens, over all of them and the query group.

    H2O adds up over the whole text as it is read; here each choice asks the latest tokens anew, because entries that
    are chosen from what is stored have no sum of their own.
    """

    queries: Queries = "recent"

    def score(self, layer: LayerView) -> Tensor:
        """sum over group and queries of softmax(q k / sqrt d), fp32; [KV heads, entries]."""
        return probabilities(layer).sum(1)
