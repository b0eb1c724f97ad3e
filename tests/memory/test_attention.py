"""Partial attention and its merge are exact, in every split, on the fast path and on the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memory import attention


def naive(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return ((query @ key.transpose(-1, -2)) * scale).softmax(-1) @ value


@settings(max_examples=40)
@given(entries=st.integers(2, 90), at=st.integers(1, 89), tokens=st.integers(1, 20), seed=st.integers(0, 99))
def test_two_parts_merged_are_the_whole(entries: int, at: int, tokens: int, seed: int) -> None:
    torch.manual_seed(seed)
    at = min(at, entries - 1)
    query, key, value = (torch.randn(2, 3, count, 8) * 3 for count in (tokens, entries, entries))

    first = attention.partial_attention(query, key[:, :, :at], value[:, :, :at], 0.3)
    second = attention.partial_attention(query, key[:, :, at:], value[:, :, at:], 0.3)

    assert torch.allclose(attention.merge(first, second)[0], naive(query, key, value, 0.3), atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_fast_path_equals_the_reference(causal: bool, masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 12, 8) for _ in range(3))
    hidden = torch.rand(12, 12) < 0.3
    hidden.fill_diagonal_(False)
    mask = torch.zeros(1, 1, 12, 12).masked_fill(hidden, -1e9) if masked and not causal else None

    fast = attention.partial_attention(query, key, value, 0.3, causal=causal, mask=mask)
    slow = attention._reference(query, key, value, 0.3, causal, mask)

    assert torch.allclose(fast[0], slow[0], atol=1e-5)
    assert torch.allclose(fast[1], slow[1], atol=1e-5)


def test_a_part_that_sees_nothing_has_no_weight() -> None:
    query, key, value = (torch.randn(1, 1, 4, 8) for _ in range(3))
    nothing = torch.full((1, 1, 4, 4), torch.finfo(torch.float32).min)
    seen = attention.partial_attention(query, key, value, 0.3)
    unseen = attention.partial_attention(query, key, value, 0.3, mask=nothing)
    assert torch.allclose(attention.merge(unseen, seen)[0], seen[0], atol=1e-6)


def test_queries_are_shown_to_the_tap_once_per_layer() -> None:
    from tests.memory.models import make_memory, make_plan, tokens

    memory = make_memory("gemma3", make_plan("gemma3", 100, 8))
    memory.read(tokens(30))
    shown = list[tuple[int, tuple[int, ...]]]()
    memory.reader._forward(tokens(5), tap=lambda layer, query, _: shown.append((layer, tuple(query.shape))))
    assert shown == [(layer, (1, 4, 5, 8)) for layer in range(3)]
