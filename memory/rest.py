"""What stands in for the stored tokens that a layer looked at and did not choose: per query head one key and one value.

The log-sum-exp of the tokens that were left is known for the query that chose. Its gradient in the query is the mean of
their keys, weighted by the attention they got, so that for a query near by it is known to first order; it is convex, so
that the estimate is never too high. Means of rows (`memory.digest`) stand for the keys and the values of their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.attention import Partial
from memory.block import CHUNK
from memory.codec import split

_NOTHING = 1e-30
"""A share of the attention that no fp32 result shows."""


@dataclass(frozen=True, slots=True)
class Rest:
    """`keys` [query heads, size, 1], `values` [1, KV heads, group, size], and the log-sum-exp `level` [query heads, 1,
    1] of a query of zeros; fp32, but for values that `to` converted."""

    level: Tensor
    keys: Tensor
    values: Tensor

    @classmethod
    def of(
        cls, queries: Tensor, logits: Tensor, shares: Tensor, chosen: Tensor, mean_keys: Tensor, mean_values: Tensor
    ) -> Rest:
        """For scaled `queries` [KV heads, group, size] with `logits` over the tokens of m rows and then over others,
        [KV heads, group, m x 64 + others], `shares` being their softmax, once `chosen` [KV heads, n] of the former are
        resident; `mean_keys` and `mean_values` [KV heads, m, size] are those of the rows."""
        tokens = mean_keys.shape[1] * CHUNK
        left = shares[..., :tokens].scatter(-1, chosen[:, None].expand(-1, shares.shape[1], -1), 0.0)
        rows = split(left, -1, (-1, CHUNK)).sum(-1)
        total = rows.sum(-1, keepdim=True).clamp_min(_NOTHING)
        keys, values = (rows / total @ part for part in (mean_keys, mean_values))
        top, at = logits[..., tokens:].max(-1, keepdim=True)
        whole = top - shares[..., tokens:].gather(-1, at).clamp_min(_NOTHING).log()
        level = whole + total.log() - (queries * keys).sum(-1, keepdim=True)
        return cls(level.reshape(-1, 1, 1), keys.reshape(-1, keys.shape[-1], 1), values[None])

    def to(self, other: Tensor) -> Rest:
        """The same where `other` is; values in its dtype."""
        values = self.values.to(other)
        return Rest(self.level.to(other.device), self.keys.to(other.device), values)

    def attend(self, query: Tensor, scale: float) -> Partial:
        """For one token's `query` [1, KV heads, group, size]: `values`, and log-sum-exps [1, KV heads, group] fp32."""
        asking = query.reshape(self.keys.shape[0], 1, -1).to(torch.float32)
        level = torch.baddbmm(self.level, asking, self.keys, alpha=scale)
        return self.values, level.view(query.shape[:3])
