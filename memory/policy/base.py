"""What a selection policy is: one dataclass with one method that scores the entries of a layer; higher means keep.

A policy never moves or deletes anything. It declares what it needs (`patch`), and `select` turns its scores and the
protected entries into the entries that stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Queries = Literal["none", "patch", "recent", "current"]
"""Whose queries a policy scores with: nobody's, those of its patch, those of the latest tokens (read once more as if
they were a patch), or those of the tokens that are being read."""


Base = Literal["latest", "patch", "episode"]
"""What fills the slots between the first tokens and the recent ones when a turn begins: the latest tokens, or those of
all that is stored which the policy's own patch, or that of the question's episode, pays most attention to."""


Unit = Literal["token", "sentence"]
"""What a policy for current queries chooses: tokens, as the queries move, or sentences, whenever one has ended."""


@dataclass(frozen=True, slots=True)
class LayerView:
    """What a policy may look at in one layer.

    `keys` [KV heads, entries, size] in place; `origins` [KV heads, entries] int32, the position in the conversation
    each entry came from; `queries` [query heads, tokens, size], rotated, or None; `scale` what scores are multiplied
    with; `seen` the true length of the conversation; `weights` [KV heads, group x tokens, entries] fp32, the share of
    its attention that each query pays to each entry, where that is known already: then `keys` are not looked at;
    `sentences` [entries], for a policy that chooses those: which one each entry is in, ascending. `keys` and `queries`
    are of any floating dtype.
    """

    keys: Tensor
    origins: Tensor
    queries: Tensor | None
    scale: float
    seen: int
    weights: Tensor | None = None
    sentences: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Protection:
    """Entries that always stay: the first `sinks`, the system prompt's first `prefix`, the last `recent` tokens."""

    sinks: int = 4
    prefix: int = 0
    recent: int = 256

    def mask(self, origins: Tensor, seen: int) -> Tensor:
        """True where protected, [KV heads, entries]."""
        return (origins < max(self.sinks, self.prefix)) | (origins >= seen - self.recent)

    @property
    def entries(self) -> int:
        """Entries per head that this protects at most."""
        return max(self.sinks, self.prefix) + self.recent


class Policy(ABC):
    """Base of all policies, and what each declares.

    `queries`: whose queries it scores with; `patch`: the text that asks, for a policy that scores with one's queries;
    `base`: what a turn begins with, and `share` the part of the slots that keeps it while the policy chooses for the
    rest.
    For current queries: `unit`, what it chooses; `still`, the cosine of a layer's queries with those it last chose for
    from which on the choice stands; `every`, the tokens after which it chooses anew whatever that is; `pace`, the share
    of a token's time that choosing may take: a layer's choice stands for some tokens where it would take more;
    `shortlist`, how many candidates per resident entry it looks at, named by the chunks' digests; `fallback`, the
    missed share of attention above which a layer attends to everything instead.
    """

    patch: str | None = None
    queries: Queries = "none"
    base: Base = "latest"
    share: float = 1.0
    unit: Unit = "token"
    still: float = 1.0
    every: int = 64
    pace: float = 1.0
    shortlist: float = 1.0
    fallback: float = 1.0

    @abstractmethod
    def score(self, layer: LayerView) -> Tensor:
        """Scores [KV heads, entries] in fp32."""


def probabilities(layer: LayerView) -> Tensor:
    """softmax(q k / sqrt d) in fp32, [KV heads, group x tokens, entries]; the shares that are known, if they are."""
    if layer.weights is not None:
        return layer.weights
    assert layer.queries is not None
    kv_heads, _, size = layer.keys.shape
    queries = layer.queries.to(torch.float32).reshape(kv_heads, -1, size) * layer.scale
    return (queries @ layer.keys.to(torch.float32).transpose(1, 2)).softmax(-1)


def most_attention(layer: LayerView) -> Tensor:
    """max over group and queries of softmax(q k / sqrt d), fp32, over cached keys only; [KV heads, entries].

    Head by head, so that the probabilities of one are all that is held.
    """
    assert layer.queries is not None
    grouped = layer.queries.reshape(layer.keys.shape[0], -1, layer.queries.shape[-1])
    heads = [
        (queries.to(torch.float32) @ keys.to(torch.float32).T).mul_(layer.scale).softmax(-1).amax(0)
        for queries, keys in zip(grouped, layer.keys, strict=True)
    ]
    return torch.stack(heads)


def select(scores: Tensor, protected: Tensor, count: int) -> Tensor:
    """The `count` entries per head to keep, ascending [KV heads, count] int64.

    Protected entries score +inf, so no tie can push one out. Every head keeps exactly `count`: no head can starve.
    """
    ranked = scores.to(torch.float32).masked_fill(protected, torch.inf)
    return ranked.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
