"""The attention function registered with transformers: partial attention with log-sum-exp, merged exactly.

A block of queries attends to what is cached (no mask: every entry is older) and to itself (causal); the two partial
results are merged by their log-sum-exp (online softmax; DistAttention, section 4). No mask tensor is ever built for
layers without a sliding window, and KV heads are never repeated for their query group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "kv_memory"

Tap = Callable[[int, Tensor, float], None]
"""Called with (layer, queries [1, query heads, tokens, size], scale) once the layer holds the tokens' keys."""


Partial = tuple[Tensor, Tensor]
"""Attention over one part of the keys, and its log-sum-exp in fp32 (-inf: an empty part, whose result is zeros)."""


class Beyond(Protocol):
    """What is stored but not resident, for one pass: recalled into the working set, or attended to where it lies."""

    def look(self, layer: int, query: Tensor, scale: float) -> int | None:
        """Called once the layer holds the tokens' keys, with `query` [1, query heads, tokens, size].

        None: the working set is what is attended to. Else the number of entries at its front that are stored too, and
        `attend` is asked for everything stored before the others.
        """

    def attend(self, layer: int, query: Tensor, scale: float) -> Partial:
        """`query` [1, KV heads, rows, size] over every stored row of this pass; fp32."""

    def rest(self, layer: int, query: Tensor, scale: float) -> Partial | None:
        """What stands in for all else that is stored, for one token: `query` [1, KV heads, group, size]. None: nothing
        does."""


def register() -> None:
    """Make `attn_implementation=NAME` known to transformers (idempotent)."""
    AttentionInterface.register(NAME, attention)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,  # noqa: ARG001 - transformers passes it; none is ever made
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    tap: Tap | None = None,
    beyond: Beyond | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of `query` [1, query heads, tokens, size] over `key`, `value` [1, KV heads, entries, size].

    The last `tokens` entries are the queries' own keys; all others are older. With `beyond`, layers without a window
    attend to what is stored elsewhere too, or have it recalled. Returns [1, tokens, query heads, size].
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if tap is not None:
        tap(int(module.layer_idx), query, scale)  # type: ignore[arg-type]
    if sliding_window is not None:
        unseen = max(0, key.shape[2] - query.shape[2] - (sliding_window - 1))
        key, value = key[:, :, unseen:], value[:, :, unseen:]
        beyond = None
    rest: Partial | None = None
    if beyond is not None:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        front = beyond.look(layer, query, scale)
        if front is not None:
            return _with_beyond(query, key[:, :, front:], value[:, :, front:], scale, beyond, layer), None
        if query.shape[2] == 1:
            rest = beyond.rest(layer, _grouped(query, key), scale)
    if query.shape[2] == 1:
        return _decode(query, key, value, scale, rest), None
    return _block(query, key, value, scale, sliding_window), None


def partial_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool = False, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Softmax attention over one part of the keys, and the log of the part's softmax denominator.

    Shapes [batch, heads, tokens, size] -> result of the same shape and dtype and log-sum-exp [batch, heads, tokens] in
    fp32.
    `mask` is additive, broadcast to [batch, heads, tokens, entries]; `causal` needs as many keys as queries.
    """
    if query.device.type == "cpu":
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = flash(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
        return out, lse
    if query.device.type == "cuda" and mask is None and _flash_takes(query):
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        out, lse = flash(query, key, value, 0.0, causal, scale=scale)[:2]
        return out, lse
    return _reference(query, key, value, scale, causal, mask)


def merge(first: Partial, second: Partial) -> Partial:
    """The attention over both parts, results [..., tokens, size] and log-sum-exps [..., tokens] as `partial_attention`
    gives them; fp32 weights, exact, associative, and safe when one part or both are empty."""
    weight = torch.sigmoid(second[1] - first[1]).nan_to_num_(0.0)[..., None].to(first[0].dtype)
    return torch.lerp(first[0], second[0], weight), torch.logaddexp(first[1], second[1])


def _flash_takes(query: Tensor) -> bool:
    return query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256


def _reference(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    scores = (query @ key.transpose(-1, -2)).to(torch.float32) * scale
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1).to(value.dtype) @ value, scores.logsumexp(-1)


def _grouped(query: Tensor, key: Tensor) -> Tensor:
    """One token's queries as the query groups of the KV heads, [1, KV heads, group, size]."""
    return query.view(1, key.shape[1], query.shape[1] // key.shape[1], query.shape[3])


def _decode(query: Tensor, key: Tensor, value: Tensor, scale: float, rest: Partial | None) -> Tensor:
    """One token: the query group of a KV head becomes the query rows of one unmasked attention."""
    groups, shape = _grouped(query, key), (1, 1, query.shape[1], query.shape[3])
    if rest is None:
        return scaled_dot_product_attention(groups, key, value, scale=scale).view(shape)
    return merge(partial_attention(groups, key, value, scale), rest)[0].view(shape)


def _with_beyond(query: Tensor, key: Tensor, value: Tensor, scale: float, beyond: Beyond, layer: int) -> Tensor:
    """What is resident, the tokens themselves and what is stored elsewhere, merged in fp32."""
    _, heads, tokens, size = query.shape
    kv_heads, past = key.shape[1], key.shape[2] - tokens
    rows = query.reshape(1, kv_heads, heads // kv_heads * tokens, size)
    own = _own(rows.view(kv_heads, -1, tokens, size), key[:, :, past:], value[:, :, past:], scale, None)
    result = own[0].reshape(rows.shape).to(torch.float32), own[1].reshape(rows.shape[:3])
    if past:
        out, lse = partial_attention(rows, key[:, :, :past], value[:, :, :past], scale)
        result = merge(result, (out.to(torch.float32), lse))
    out = merge(result, beyond.attend(layer, rows, scale))[0].to(query.dtype)
    return out.view(1, heads, tokens, size).transpose(1, 2)


def _block(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
    _, heads, tokens, size = query.shape
    kv_heads, past = key.shape[1], key.shape[2] - tokens
    grouped = query.view(kv_heads, heads // kv_heads, tokens, size)
    result = _own(grouped, key[:, :, past:], value[:, :, past:], scale, window)
    if past:
        older = _older(grouped, key[:, :, :past], value[:, :, :past], scale, window)
        result = merge(older, result)
    return result[0].reshape(1, heads, tokens, size).transpose(1, 2)


def _own(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> tuple[Tensor, Tensor]:
    """The block over itself. `query` [KV heads, group, tokens, size]; keys are expanded to the group without a copy."""
    tokens = query.shape[2]
    wide = (query.shape[0], query.shape[1], tokens, query.shape[3])
    key, value = key.transpose(0, 1).expand(wide), value.transpose(0, 1).expand(wide)
    if window is None or tokens <= window:
        return partial_attention(query, key, value, scale, causal=True)
    steps = torch.arange(tokens, device=query.device)
    age = steps[:, None] - steps[None, :]
    return partial_attention(query, key, value, scale, mask=_additive((age >= 0) & (age < window), query.dtype))


def _older(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> tuple[Tensor, Tensor]:
    """The block over everything cached before it, as [KV heads, group, tokens, ...]."""
    kv_heads, group, tokens, size = query.shape
    past = key.shape[2]
    if window is None:
        rows = query.reshape(1, kv_heads, group * tokens, size)
        out, lse = partial_attention(rows, key, value, scale)
        return out.reshape(kv_heads, group, tokens, size), lse.reshape(kv_heads, group, tokens)
    age = past + torch.arange(tokens, device=query.device)[:, None] - torch.arange(past, device=query.device)[None, :]
    wide = (kv_heads, group, past, size)
    visible = _additive(age < window, query.dtype)
    return partial_attention(
        query, key.transpose(0, 1).expand(wide), value.transpose(0, 1).expand(wide), scale, mask=visible
    )


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, the lowest finite number elsewhere: a row that sees nothing gets a log-sum-exp that loses."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[None, None]
