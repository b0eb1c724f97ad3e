"""Weights in fp16 on a CPU: they multiply as fp32 would, and lean layers compute what transformers' own do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from assistant.errors import ModelError, UsageError
from assistant.fit import weight_bytes
from assistant.orders import KvSpec, ModelSpec
from assistant.worker.division import Division
from assistant.worker.halves import HalfLinear, can_halve, halve
from assistant.worker.lean import LeanLayer, can_be_lean, lean
from assistant.worker.loader import load, loaded_bytes
from memory.budget import GIB, plan
from memory.geometry import Geometry
from memory.store import Memory, make_policy
from tests.worker.tiny import make_tokenizer

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
}
LEAN: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "llama with biases": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "mistral, a window": MistralConfig(**SHAPE, sliding_window=64),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen2, two windows": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=64, max_window_layers=2),
    "qwen3": Qwen3Config(**SHAPE),
}
GEMMA = Gemma3TextConfig(**SHAPE, sliding_window=64, query_pre_attn_scalar=16)
ARCHITECTURE = "Gemma3ForCausalLM"
here = pytest.mark.skipif(not can_halve(torch.device("cpu")), reason="torch has no FBGEMM on this CPU")


def random_model(config: PretrainedConfig) -> Any:
    """Every parameter different from what a layer begins with, norms and biases too."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def expected(model: Any, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([ids])).logits[0, -9:]
    return logits


def written(model: Any, ids: list[int]) -> Tensor:
    """Logits of the last nine, eight of them read one by one, through the memory."""
    division = plan(Geometry.from_config(model.config.to_dict()), GIB, 0, 4, 128)
    memory = Memory(model, division, make_policy("sinks_recent"), dtype=torch.float32)
    return torch.stack([memory.read(ids[:-8]), *(memory.step(token) for token in ids[-8:])])


def plain(weight: Tensor, bias: Tensor | None) -> nn.Module:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.data = weight
    if bias is not None:
        linear.bias.data = bias
    return linear


def some_ids(count: int = 300) -> list[int]:
    ids: list[int] = torch.randint(0, 512, (count,), generator=torch.Generator().manual_seed(3)).tolist()
    return ids


@pytest.mark.parametrize("kind", LEAN)
def test_a_lean_layer_computes_what_the_layer_it_is_made_of_does(kind: str) -> None:
    model, ids = random_model(LEAN[kind]), some_ids()
    before = expected(model, ids)
    assert can_be_lean(model.config)
    with ThreadPoolExecutor(2) as pool:
        lean(model, plain, pool)
    assert all(isinstance(layer, LeanLayer) for layer in model.get_decoder().layers)
    assert (written(model, ids) - before).abs().max() < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        GEMMA,
        LlamaConfig(**SHAPE, hidden_act="gelu"),
        Qwen3Config(**SHAPE, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
    ],
    ids=["gemma", "another activation", "half of a head is turned"],
)
def test_what_is_not_known_keeps_its_layers(config: PretrainedConfig) -> None:
    assert not can_be_lean(config)


@here
@pytest.mark.parametrize("config", [*LEAN.values(), GEMMA], ids=[*LEAN, "gemma"])
def test_weights_that_fp16_holds_multiply_as_in_fp32(config: PretrainedConfig) -> None:
    model, ids = random_model(config), some_ids()
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.float16))
    before = expected(model, ids)
    halve(model)
    assert not [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert (written(model, ids) - before).abs().max() < 1e-5


@here
def test_others_are_rounded_and_nothing_else_is() -> None:
    generator = torch.Generator().manual_seed(2)
    weight, bias, inputs = (torch.randn(*shape, generator=generator) for shape in ((64, 48), (64,), (5, 48)))
    found = HalfLinear(weight, bias)(inputs)
    assert (found - (inputs @ weight.to(torch.float16).to(torch.float32).T + bias)).abs().max() < 1e-5
    assert (found - (inputs @ weight.T + bias)).abs().max() > 1e-5


@here
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "lm_head.weight"])
def test_a_weight_that_is_too_large_is_refused(name: str) -> None:
    model = random_model(LlamaConfig(**SHAPE, tie_word_embeddings=False))
    model.get_parameter(name)[3, 4] = 1e5
    with pytest.raises(OverflowError, match="1e\\+05"):
        halve(model)


@here
@pytest.mark.parametrize("tied", [True, False])
def test_the_bytes_are_counted_and_estimated(tied: bool) -> None:
    model = random_model(LlamaConfig(**SHAPE, tie_word_embeddings=tied))
    geometry = Geometry.from_config(model.config.to_dict())
    halve(model)
    assert loaded_bytes(model) == pytest.approx(weight_bytes(geometry, "fp16", 4), rel=0.03)
    assert loaded_bytes(model) > weight_bytes(geometry, "fp16", 4) / 1.005


def test_a_device_without_it_refuses_fp16_and_auto_takes_the_weights_as_they_are() -> None:
    geometry = Geometry.from_config(LlamaConfig(**SHAPE).to_dict())
    asked = Division(geometry, 4, 64, "fp16", expected=0, staging=0, ram=0, encoder=0, halves=False)
    with pytest.raises(UsageError, match=r"fp16 is for CPUs.*--quant none"):
        asked.choose(GIB)
    assert replace(asked, asked="auto").choose(GIB) == "none"
    assert replace(asked, asked="auto", halves=True).choose(GIB) == "fp16"


@here
def test_a_packed_matrix_takes_what_is_said() -> None:
    """Asked of the process: inputs are padded to blocks of 512."""
    weight, process = torch.ones(16_384, 576), psutil.Process()
    HalfLinear(weight, None)  # what torch sets up at the first one
    before = process.memory_info().rss
    kept = [HalfLinear(weight, None) for _ in range(4)]
    grown = process.memory_info().rss - before
    assert grown == pytest.approx(sum(one.nbytes for one in kept), rel=0.1)


@here
def test_the_layers_with_large_key_biases_are_known_before_the_biases_are_joined(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    model = random_model(Qwen2Config(**SHAPE | {"vocab_size": len(tokenizer), "eos_token_id": 2}))
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.k_proj.bias.fill_(50.0 if number == 1 else 0.1)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    kv = KvSpec(folder=str(tmp_path / "kv"), codec="int4", disk=2**30, reserve=0)
    spec = ModelSpec(id="tiny", path=str(tmp_path / "model"), budget="64MiB", kv=kv)
    loaded = load(spec, lambda _done, _total: None)
    try:
        assert loaded.quant == "fp16"
        assert loaded.memory.spill is not None
        assert loaded.memory.spill.codec.names == ("int8", "int8", "int4", "int8")
    finally:
        loaded.episodes.close()
        if loaded.memory.spill is not None:
            loaded.memory.spill.close()


@here
def test_a_model_with_a_weight_that_is_too_large_says_what_to_do(tmp_path: Path) -> None:
    model = random_model(LlamaConfig(**SHAPE))
    model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e5
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    spec = ModelSpec(id="large", path=str(tmp_path), budget="64MiB", quant="fp16")
    with pytest.raises(ModelError, match=r"'large' cannot be held in fp16.*Use --quant none"):
        load(spec, lambda _done, _total: None)
    automatic = spec.model_copy(update={"quant": "auto"})
    loaded = load(automatic, lambda _done, _total: None)
    loaded.episodes.close()
    assert (loaded.quant, loaded.spec) == ("none", automatic)


@here
@pytest.mark.parametrize("matrices", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_norms_and_embeddings_are_those_of_the_file(matrices: torch.dtype, tmp_path: Path) -> None:
    """As a large GGUF is converted, matrices in half precision, norms in fp32; and gemma scales its embeddings."""
    model, ids = random_model(GEMMA), some_ids()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.copy_(parameter.to(torch.float16).to(matrices))
    before = expected(model, ids)
    tensors = {name: one.to(matrices) if one.ndim == 2 else one for name, one in model.named_parameters()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"dtype": str(matrices).removeprefix("torch."), "architectures": [ARCHITECTURE]}
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    make_tokenizer().save_pretrained(tmp_path)
    loaded = load(ModelSpec(id="tiny", path=str(tmp_path), budget="64MiB"), lambda _done, _total: None)
    loaded.episodes.close()
    memory = loaded.memory
    found = torch.stack([memory.read(ids[:-8]), *(memory.step(token) for token in ids[-8:])])
    assert (loaded.quant, loaded.memory.complete) == ("fp16", True)
    assert (found - before).abs().max() < 1e-4
