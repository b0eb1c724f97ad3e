"""Codecs: the bound holds for keys as they were and as they come back, lossless is lossless, nothing odd is stored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from memory.codec import RowCodec, layer_codecs, protected_layers
from memory.errors import CodecError
from tests.memory.models import model_pair

CODECS = ["fp32", "int8", "int4"]


def chunk(seed: int, heads: int, size: int, offset: float, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(heads, 64, size, generator=generator) * spread
    keys += torch.randn(heads, 1, size, generator=generator) * offset
    return keys, torch.randn(heads, 64, size, generator=generator) * spread


def there_and_back(codec: RowCodec, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    sections = codec.encode(0, keys, values)[None]
    out = [torch.empty(keys.shape[0], 1, 64, keys.shape[2]) for _ in range(2)]
    codec.decode(0, sections, *out)
    return out[0][:, 0], out[1][:, 0], *(part[0].float() for part in codec.digest(0, sections))


@settings(max_examples=60)
@given(
    name=st.sampled_from(CODECS),
    seed=st.integers(0, 10_000),
    heads=st.integers(1, 3),
    size=st.sampled_from([8, 64, 128]),
    offset=st.sampled_from([0.0, 1.0, 400.0]),
    spread=st.sampled_from([0.0, 1e-4, 1.0, 50.0]),
)
def test_low_and_high_bound_every_score(
    name: str, seed: int, heads: int, size: int, offset: float, spread: float
) -> None:
    keys, values = chunk(seed, heads, size, offset, spread)
    codec = RowCodec([(heads, size)], [name])
    decoded, _, low, high, mean = there_and_back(codec, keys, values)
    for stored in (keys, decoded):
        assert (stored >= low[:, None]).all()
        assert (stored <= high[:, None]).all()
    query = torch.randn(heads, size, dtype=torch.float64)
    bound = torch.maximum(query * low, query * high).sum(-1)
    for stored in (keys, decoded):
        assert ((stored.double() @ query[..., None])[..., 0].amax(-1) <= bound + 1e-9).all()
    assert torch.allclose(mean, keys.mean(1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "levels"), [("int8", 255), ("int4", 15)])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_an_error_is_at_most_half_a_step(name: str, levels: int, offset: float) -> None:
    keys, values = chunk(3, 2, 64, offset, 2.0)
    codec = RowCodec([(2, 64)], [name])
    back_keys, back_values, low, high, _ = there_and_back(codec, keys, values)
    step = (high - low)[:, None] / levels
    assert ((back_keys - keys).abs() <= 0.502 * step + 1e-4).all()
    width = values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)
    assert ((back_values - values).abs() <= 0.51 * width / levels + 1e-3).all()


def test_lossless_is_lossless_in_every_dtype() -> None:
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        keys, values = (part.to(dtype) for part in chunk(5, 2, 64, 10.0, 2.0))
        codec = RowCodec([(2, 64)], [name])
        sections = codec.encode(0, keys, values)[None]
        out = [torch.empty(2, 1, 64, 64, dtype=dtype) for _ in range(2)]
        codec.decode(0, sections, *out)
        assert torch.equal(out[0][:, 0], keys)
        assert torch.equal(out[1][:, 0], values)


def test_many_rows_are_decoded_into_strided_views() -> None:
    codec = RowCodec([(2, 8)], ["int8"])
    chunks = [chunk(seed, 2, 8, 1.0, 1.0) for seed in range(5)]
    sections = torch.stack([codec.encode(0, *one) for one in chunks])
    arena = torch.zeros(2, 2, 400, 8)
    views = [part[:, 40 : 40 + 5 * 64].unflatten(1, (5, 64)) for part in arena]
    codec.decode(0, sections, *views)
    for index, one in enumerate(chunks):
        for part, original in zip(arena, one, strict=True):
            assert torch.allclose(part[:, 40 + index * 64 : 104 + index * 64], original, atol=0.05)
    assert not arena[:, :, :40].any()
    assert not arena[:, :, 360:].any()


@pytest.mark.parametrize("bad", [torch.inf, torch.nan, 1e6])
@pytest.mark.parametrize("name", CODECS)
def test_numbers_that_cannot_come_back_are_refused(name: str, bad: float) -> None:
    keys, values = chunk(1, 2, 8, 0.0, 1.0)
    keys[1, 5, 3] = bad
    with pytest.raises(CodecError, match="not finite or too large"):
        RowCodec([(2, 8)], [name]).encode(0, keys, values)


def test_layers_with_large_key_biases_stay_at_eight_bit() -> None:
    model = model_pair("qwen2")[0]
    assert protected_layers(model) == {0, 2}
    assert protected_layers(model_pair("llama")[0]) == frozenset()
    assert layer_codecs("int4", 3, torch.float32, {0, 2}) == ["int8", "int4", "int8"]
    assert layer_codecs("lossless", 2, torch.bfloat16) == ["bf16", "bf16"]
    with pytest.raises(CodecError, match=r"Layer 0 .* int8"):
        RowCodec([(2, 8)] * 3, ["int4"] * 3, protected={0, 2})


def test_a_layer_in_the_middle_is_protected_when_its_bias_stands_out() -> None:
    model = AutoModelForCausalLM.from_config(model_pair("qwen2")[0].config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.k_proj.bias.fill_(0.1)
        model.model.layers[1].self_attn.k_proj.bias.fill_(50.0)
    assert 1 in protected_layers(model)


def test_sizes_are_those_of_the_arithmetic() -> None:
    for name, bits, ends in (("int8", 8, 2), ("int4", 4, 2), ("fp32", 32, 0)):
        planned = 2 * 3 * 64 * bits / 8 + 3 * 3 * 64 * 2 / 64 + 2 * 3 * ends / 1
        assert RowCodec([(3, 64)], [name]).sections[0] / 64 <= 1.03 * planned
