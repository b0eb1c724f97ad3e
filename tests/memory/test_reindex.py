"""Past the trained window entries are re-indexed from the key as first computed, and the chat goes on for ever."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from memory.policy import POLICIES
from memory.store import Memory
from tests.memory.models import KINDS, WINDOW, make_memory, make_plan, model_pair, tokens

LONG = 3 * WINDOW


def read_past_the_window(kind: str, policy: str = "sinks_recent", length: int = LONG) -> Memory:
    memory = make_memory(kind, make_plan(kind, 240, 32), policy)
    memory.read(tokens(length))
    return memory


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", KINDS)
def test_positions_stay_inside_the_trained_window_for_ever(kind: str, policy: str) -> None:
    memory = make_memory(kind, make_plan(kind, 240, 32), policy)
    for piece in range(24):
        logits = memory.read(tokens(96, seed=piece))
        assert memory.working_set.next_position <= WINDOW
        assert torch.isfinite(logits).all()
    assert memory.working_set.seen == 24 * 96
    assert len(memory.tokens) == 24 * 96


@pytest.mark.parametrize("kind", KINDS)
def test_keys_in_place_are_one_rotation_from_the_key_as_first_computed(kind: str) -> None:
    memory = read_past_the_window(kind)
    assert memory.reader.evictions > 2
    for layer in memory.working_set.layers:
        homes, targets = layer.homes(), _positions_in_place(memory, layer.length)
        assert layer._homes is not None
        for head in range(2):
            moved = layer.rope.rotate(layer._homes[0, head, : layer.length], targets - homes[head])
            assert torch.allclose(layer.stored[0][head], moved, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
def test_rotation_is_the_models_own(kind: str) -> None:
    """A key moved by our rotation equals the key that the model's rotary module makes at that position."""
    model, layer = model_pair(kind)[0], read_past_the_window(kind).working_set.layers[0]
    plain = torch.randn(1, 2, 20, 8)
    here, there = torch.arange(100, 120), torch.arange(7, 27)
    at_here, at_there = (_rotate_as_the_model_does(model, plain, positions) for positions in (here, there))
    for head in range(2):
        assert torch.allclose(layer.rope.rotate(at_here[0, head], there - here), at_there[0, head], atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_next_tokens_equal_plain_attention_over_the_reindexed_entries(kind: str) -> None:
    memory = read_past_the_window(kind, "patched_prompt")
    memory.reader.make_room(20)
    cache = Cache(layers=[DynamicLayer() for _ in memory.working_set.layers])
    for index, layer in enumerate(memory.working_set.layers):
        cache.update(*(part[None].clone() for part in layer.stored), index)
    piece, start = tokens(20, seed=5), memory.working_set.next_position

    with torch.inference_mode():
        wanted = model_pair(kind)[1](
            torch.tensor([piece]), position_ids=torch.arange(start, start + 20)[None], past_key_values=cache
        ).logits[0, -1]

    assert torch.allclose(memory.read(piece), wanted, atol=1e-4)


def test_contiguous_positions_keep_the_order_of_the_conversation() -> None:
    memory = read_past_the_window("llama", "patched_prompt")
    for layer in memory.working_set.layers:
        assert (layer.origins().diff() > 0).all()
        assert layer.origins().max() == LONG - 1
        assert layer.reindexed


def test_nothing_is_allocated_when_the_window_is_outgrown() -> None:
    memory = make_memory("gemma3", make_plan("gemma3", 240, 32))
    arenas = [layer.pool.arena.data_ptr() for layer in memory.working_set.layers]
    memory.read(tokens(LONG))
    assert [layer.pool.arena.data_ptr() for layer in memory.working_set.layers] == arenas
    held = [layer._homes for layer in memory.working_set.layers]
    assert all(home is not None and home.untyped_storage().data_ptr() in arenas for home in held)


def test_clearing_returns_to_positions_as_read() -> None:
    memory = read_past_the_window("qwen3")
    memory.clear()
    assert not memory.working_set.reindexed
    assert memory.working_set.next_position == memory.resident == 0


def _positions_in_place(memory: Memory, length: int) -> Tensor:
    end = memory.working_set.next_position
    return torch.arange(end - length, end)


def _rotate_as_the_model_does(model: object, keys: Tensor, positions: Tensor) -> Tensor:
    cos, sin = model.model.rotary_emb(keys, positions[None])  # type: ignore[attr-defined]
    first, second = keys.chunk(2, dim=-1)
    return keys * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
