"""Keep what the last token looks at, the same entries in every head (TOVA, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from memory.policy.base import LayerView, Policy, Queries, probabilities


@dataclass(frozen=True)
class Tova(Policy):
    """Score = attention of the very last query, a mean over all heads."""

    queries: Queries = "recent"

    def score(self, layer: LayerView) -> Tensor:
        """mean over query heads of softmax(q k / sqrt d) of the last query, fp32; [KV heads, entries].

        Where heads hold different entries the mean is over the heads' entries of the same rank.
        """
        assert layer.queries is not None
        kv_heads, entries = layer.keys.shape[:2]
        weights = probabilities(layer).view(kv_heads, -1, layer.queries.shape[1], entries)[:, :, -1]
        return weights.mean((0, 1)).expand(kv_heads, entries)
