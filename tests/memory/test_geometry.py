"""Shapes come from the configuration; what cannot be managed is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from memory.errors import UnsupportedModel
from memory.geometry import Geometry
from tests.memory.models import CONFIGS, KINDS, WINDOW


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_of_every_supported_kind(kind: str) -> None:
    geometry = Geometry.from_config(CONFIGS[kind].to_dict())
    assert len(geometry.layers) == 3
    assert geometry.window == WINDOW
    assert {(layer.kv_heads, layer.head_dim) for layer in geometry.layers} == {(2, 8)}


def test_sliding_layers_are_told_from_the_others() -> None:
    windows = {kind: [layer.window for layer in Geometry.from_config(CONFIGS[kind].to_dict()).layers] for kind in KINDS}
    assert windows["llama"] == windows["qwen2"] == windows["mistral"] == [None, None, None]
    assert windows["mistral_sliding"] == [24, 24, 24]
    assert windows["gemma3"] == [16, None, 16]


def test_kv_bytes_count_keys_and_values_of_layers_that_grow() -> None:
    assert Geometry.from_config(CONFIGS["llama"].to_dict()).kv_bytes_per_token(4) == 3 * 2 * 2 * 8 * 4
    assert Geometry.from_config(CONFIGS["gemma3"].to_dict()).kv_bytes_per_token(2) == 1 * 2 * 2 * 8 * 2


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_parameters_are_those_of_the_model(kind: str) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[kind])
    assert Geometry.from_config(CONFIGS[kind].to_dict()).parameters == model.num_parameters()


def test_a_multimodal_configuration_is_read_through_its_text_part() -> None:
    config = {"model_type": "gemma3", "text_config": CONFIGS["gemma3"].to_dict()}
    assert Geometry.from_config(config) == Geometry.from_config(CONFIGS["gemma3"].to_dict())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kv_lora_rank": 512}, "latent attention"),
        ({"layer_types": ["linear_attention"] * 3}, "linear_attention"),
        ({"attn_logit_softcapping": 50.0}, "soft-capped"),
        ({"model_type": "cohere"}, "interleaved"),
        ({"num_attention_heads": None}, "num_attention_heads"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
    ],
)
def test_what_cannot_be_managed_is_refused_with_a_sentence(change: dict[str, Any], word: str) -> None:
    with pytest.raises(UnsupportedModel, match=word):
        Geometry.from_config(CONFIGS["llama"].to_dict() | change)


def test_positions_that_change_with_length_bound_the_window() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 128}
    config = LlamaConfig(max_position_embeddings=256).to_dict() | {"rope_parameters": rope}
    assert Geometry.from_config(config).window == 128
