"""With nothing evicted our path equals transformers' DynamicCache path, whatever the block size."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import CacheLayerMixin, DynamicCache

from memory.cache import WorkingSetLayer
from tests.memory.models import KINDS, full_logits, make_memory, model_pair, roomy_plan, tokens

TOLERANCE = 1e-4


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(length=st.integers(2, 300), block=st.integers(1, 300), steps=st.integers(0, 8), seed=st.integers(0, 9))
def test_prefill_and_decode_equal_full_attention(kind: str, length: int, block: int, steps: int, seed: int) -> None:
    ids = tokens(length + steps, seed)
    wanted = full_logits(kind, ids)
    memory = make_memory(kind, roomy_plan(kind, block))

    seen = [memory.read(ids[:length])] + [memory.step(token) for token in ids[length:]]

    assert memory.complete
    assert torch.stack(seen).sub(wanted[length - 1 :]).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_one_shot_equals_reading_turn_by_turn(kind: str) -> None:
    ids = tokens(120)
    memory = make_memory(kind, roomy_plan(kind, 32))

    for start, stop in ((0, 1), (1, 40), (40, 41), (41, 119), (119, 120)):
        logits = memory.read(ids[start:stop])

    assert torch.allclose(logits, full_logits(kind, ids)[-1], atol=TOLERANCE)


def test_reference_really_uses_a_dynamic_cache() -> None:
    ids = torch.tensor([tokens(50)])
    cache = DynamicCache(config=model_pair("llama")[1].config)
    with torch.inference_mode():
        model_pair("llama")[1](ids[:, :30], past_key_values=cache)
        logits = model_pair("llama")[1](ids[:, 30:], past_key_values=cache).logits[0, -1]

    assert torch.allclose(logits, full_logits("llama", ids[0].tolist())[-1], atol=TOLERANCE)


def test_the_cache_layer_api_is_the_one_we_implement() -> None:
    """Fails when transformers moves the seam, before anything subtler does."""
    wanted = {"lazy_initialization", "update", "get_mask_sizes", "get_seq_length", "get_max_length"}
    assert set(CacheLayerMixin.__abstractmethods__) == wanted
    for name in wanted - {"update"}:
        theirs = list(inspect.signature(getattr(CacheLayerMixin, name)).parameters)
        assert list(inspect.signature(getattr(WorkingSetLayer, name)).parameters) == theirs
