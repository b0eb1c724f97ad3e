"""Keep what the latest tokens look at, and its neighbours (SnapKV, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import max_pool1d

from memory.policy.base import LayerView, Policy, Queries, probabilities


@dataclass(frozen=True)
class SnapKV(Policy):
    """Score = attention from the last `window` queries in sum, the highest of `kernel` neighbours."""

    queries: Queries = "recent"
    window: int = 32
    kernel: int = 7

    def score(self, layer: LayerView) -> Tensor:
        """maxpool over entries of the sum over group and window of softmax(q k / sqrt d), fp32; [KV heads, entries]."""
        assert layer.queries is not None
        kv_heads, entries = layer.keys.shape[:2]
        weights = probabilities(layer).view(kv_heads, -1, layer.queries.shape[1], entries)[:, :, -self.window :]
        votes = weights.sum((1, 2))[:, None]
        return max_pool1d(votes, self.kernel, stride=1, padding=self.kernel // 2)[:, 0]
