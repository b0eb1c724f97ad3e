"""What a reply attends to of the history, and the model over it: full KV, entries that were kept, or a choice a token.

A `Reply` holds the tokens after the history with their own keys and values; the history comes from a `Source`. Several
replies take a step together, and those that share a source attend to it together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from memory.attention import Partial, merge, partial_attention

NAME = "benchmarks.quality"

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values [KV heads, entries, size] a layer."""


class Source(Protocol):
    """The history, as a policy shows it."""

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial | None:
        """`query` [KV heads, tokens, group, size] over the history, as [1, KV heads, tokens x group, size]."""


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """The same entries for every token: all of the history, or what a policy kept of it."""

    layers: Layers

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """Attention over the entries."""
        keys, values = self.layers[layer]
        return partial_attention(query.flatten(1, 2)[None], keys[None], values[None], scale)


@dataclass(frozen=True, eq=False, slots=True)
class Nothing:
    """No history."""

    def attend(self, layer: int, query: Tensor, scale: float) -> None:
        """Nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class BestChoice:
    """For every token the `count` entries a head that its own attention prefers, all of them looked at: no choice of
    as many entries does much better."""

    layers: Layers
    protected: Tensor
    count: int

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """Attention over each token's own choice."""
        keys, values = self.layers[layer]
        kv_heads, tokens, group = query.shape[:3]
        logits = (query.flatten(1, 2) @ keys.transpose(1, 2)).mul_(scale).view(kv_heads, tokens, group, -1)
        scores = logits.softmax(-1).sum(2).masked_fill_(self.protected, torch.inf)
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(self.count).indices, True)
        logits.masked_fill_(~chosen[:, :, None], -torch.inf)
        lse = logits.logsumexp(-1)
        out = logits.sub_(lse[..., None]).exp_().flatten(1, 2) @ values
        return out[None], lse.flatten(1, 2)[None]


@dataclass(slots=True)
class Reply:
    """Tokens after the history: where the next one stands, and the keys and values of those before it."""

    source: Source
    position: int
    own: Layers = field(default_factory=list)

    def branch(self) -> Reply:
        """Another continuation of the same tokens."""
        return Reply(self.source, self.position, list(self.own))

    def cut(self, count: int) -> None:
        """Take the last `count` tokens back."""
        self.position -= count
        self.own = [
            (keys[:, : keys.shape[1] - count], values[:, : values.shape[1] - count]) for keys, values in self.own
        ]


class Model:
    """A causal LM whose attention to the history goes to a source."""

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(NAME, _attention)
        self._model = model

    def read(self, replies: Sequence[Reply], ids: Sequence[Sequence[int]], tap: Any = None) -> Tensor:
        """As many tokens for every reply; the logits after each, fp32 [replies, tokens, vocabulary].

        `tap(layer, queries [query heads, tokens, size], scale)` sees the first reply's queries.
        """
        self._model.set_attn_implementation(NAME)
        tokens = len(ids[0])
        positions = [torch.arange(reply.position, reply.position + tokens) for reply in replies]
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor([list(one) for one in ids]),
                position_ids=torch.stack(positions),
                use_cache=False,
                replies=replies,
                tap=tap,
            ).logits
        for reply in replies:
            reply.position += tokens
        return logits.to(torch.float32)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,  # noqa: ARG001 - transformers passes it
    *,
    scaling: float | None = None,
    replies: Sequence[Reply],
    tap: Any = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """`query` [replies, query heads, tokens, size] over each reply's source, its own tokens and the new ones."""
    layer, scale = int(module.layer_idx), query.shape[-1] ** -0.5 if scaling is None else scaling  # type: ignore[arg-type]
    if tap is not None:
        tap(layer, query[0], scale)
    count, heads, tokens, size = query.shape
    kv_heads = key.shape[1]
    grouped = query.view(count, kv_heads, heads // kv_heads, tokens, size).transpose(2, 3)
    parts = [_own(reply, layer, grouped[at], key[at], value[at], scale) for at, reply in enumerate(replies)]
    for source in {id(reply.source): reply.source for reply in replies}.values():
        at = [number for number, reply in enumerate(replies) if reply.source is source]
        found = source.attend(layer, grouped[at].transpose(0, 1).flatten(1, 2), scale)
        if found is not None:
            shares = [part.chunk(len(at), dim=2) for part in found]
            for number, *part in zip(at, *shares, strict=True):
                parts[number] = merge(parts[number], (part[0], part[1]))
    out = torch.cat([part[0] for part in parts]).view(count, kv_heads, tokens, heads // kv_heads, size)
    return out.permute(0, 2, 1, 3, 4).reshape(count, tokens, heads, size), None


def _own(reply: Reply, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Partial:
    """`query` [KV heads, tokens, group, size] over the reply's tokens before and, causally, the new ones."""
    kv_heads, tokens, group, size = query.shape
    before = reply.own[layer][0].shape[1] if layer < len(reply.own) else 0
    if layer < len(reply.own):
        key, value = (torch.cat(pair, dim=1) for pair in zip(reply.own[layer], (key, value), strict=True))
        reply.own[layer] = (key, value)
    else:
        reply.own.append((key, value))
    later = torch.arange(before + tokens) > torch.arange(before, before + tokens)[:, None]
    mask = torch.zeros(later.shape).masked_fill_(later, torch.finfo(torch.float32).min)
    mask = mask[:, None].expand(tokens, group, -1).reshape(1, 1, tokens * group, -1)
    rows = query.reshape(1, kv_heads, tokens * group, size)
    return partial_attention(rows, key[None], value[None], scale, mask=mask)
