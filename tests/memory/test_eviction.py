"""With eviction, results equal full attention in which the evicted entries are masked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from memory.policy import POLICIES
from tests.memory.models import KINDS, WINDOW, make_memory, make_plan, model_pair, tokens

TOLERANCE = 1e-4


def masked_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, scaling: float, visible: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Plain fp32 attention over everything ever read, with what `visible` lacks masked per layer and KV head."""
    group, new, total = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    scores = query @ key.repeat_interleave(group, 1).transpose(-1, -2) * scaling
    age = torch.arange(total - new, total)[:, None] - torch.arange(total)[None, :]
    seen = (age >= 0) & (age < (kwargs.get("sliding_window") or total))
    past = torch.ones(key.shape[1], total, dtype=torch.bool)
    past[:, : total - new] = visible[module.layer_idx]
    allowed = seen[None] & past.repeat_interleave(group, 0)[:, None]
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    return (weights @ value.repeat_interleave(group, 1)).transpose(1, 2), None


def visible_entries(memory: Any) -> list[Tensor]:
    """Per layer [KV heads, tokens read]: which are still resident (sliding layers: all, their mask is the window)."""
    found = []
    for layer in memory.working_set.layers:
        resident = torch.full((2, layer.seen), layer.is_sliding)
        found.append(resident if layer.is_sliding else resident.scatter(1, layer.origins().long(), True))
    return found


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(length=st.integers(60, 400), block=st.integers(1, 40), capacity=st.integers(90, 140), seed=st.integers(0, 9))
def test_equals_full_attention_with_the_same_entries_masked(
    kind: str, policy: str, length: int, block: int, capacity: int, seed: int
) -> None:
    AttentionInterface.register("masked_reference", masked_attention)
    reference = model_pair(kind)[1]
    reference.set_attn_implementation("masked_reference")
    try:
        ids = tokens(length, seed)
        memory = make_memory(kind, make_plan(kind, capacity, block), policy)
        everything = Cache(layers=[DynamicLayer() for _ in memory.working_set.layers])
        for start in range(0, length, block):
            piece = ids[start : start + block]
            memory.reader.make_room(len(piece))
            with torch.inference_mode():
                wanted = reference(
                    torch.tensor([piece]), past_key_values=everything, visible=visible_entries(memory)
                ).logits[0, -1]
            assert torch.allclose(memory.read(piece), wanted, atol=TOLERANCE)
            assert all(layer.length <= capacity for layer in memory.working_set.bounded)
        if memory.working_set.bounded:
            assert memory.complete == (length <= capacity - 16)
    finally:
        reference.set_attn_implementation("sdpa")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
def test_sinks_prefix_and_recent_window_always_stay(kind: str, policy: str) -> None:
    memory = make_memory(kind, make_plan(kind, 120, 16), policy)
    memory.protect(prefix=11)
    recent = memory.reader.protection.recent
    assert recent > 4

    for token in tokens(WINDOW - 40):
        memory.read([token])
        for layer in memory.working_set.bounded:
            origins = layer.origins()
            assert (origins[:, :11] == torch.arange(min(11, layer.seen))).all()
            assert (origins[:, -recent:] == torch.arange(max(0, layer.seen - recent), layer.seen)).all()
            assert (origins.diff() > 0).all()


def test_every_head_keeps_its_floor_and_no_token_is_kept_twice() -> None:
    memory = make_memory("llama", make_plan("llama", 100, 8), "patched_prompt")
    memory.read(tokens(300))
    for layer in memory.working_set.bounded:
        assert layer.origins().shape == (2, layer.length)
        assert all(len(set(row.tolist())) == layer.length for row in layer.origins())


def test_heads_choose_for_themselves_under_a_patch() -> None:
    memory = make_memory("llama", make_plan("llama", 100, 8), "patched_prompt")
    memory.read(tokens(300))
    first, second = memory.working_set.layers[0].origins()
    assert not torch.equal(first, second)


def test_the_patch_leaves_no_trace() -> None:
    memory = make_memory("gemma3", make_plan("gemma3", 100, 8), "patched_prompt")
    memory.read(tokens(84))
    before = [(layer.length, layer.seen, layer.stored[0].clone()) for layer in memory.working_set.layers]
    memory.reader._scores()
    after = [(layer.length, layer.seen, layer.stored[0]) for layer in memory.working_set.bounded]
    for (length, seen, keys), (length_after, seen_after, keys_after) in zip(before[1:2], after, strict=True):
        assert (length, seen) == (length_after, seen_after)
        assert torch.equal(keys, keys_after)
    assert memory.working_set.seen == 84
