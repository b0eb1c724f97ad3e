"""Limits of the codecs: bounds for any numbers, half-precision destinations, odd shapes, sizes of real models' rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from memory.chunkfile import Layout
from memory.codec import VALUE_GROUP, RowCodec, layer_codecs
from memory.errors import CodecError

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ALL = [*KINDS, "int8", "int4"]
NUMBERS = st.floats(-65024, 65024, width=32)  # rounds to a number that fp16 has in bf16, too
REAL = {
    "SmolLM2-135M": (30, 3, 64),
    "Qwen2.5-0.5B": (24, 2, 64),
    "Llama-3.1-8B": (32, 8, 128),
    "Phi-3-mini": (32, 32, 96),
}


def random_chunk(heads: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(heads, 64, size, generator=torch.Generator().manual_seed(seed))


def decoded(codec: RowCodec, sections: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Keys and values [KV heads, n, 64, size] of sections [n, bytes] of layer 0."""
    heads, size = codec.shapes[0]
    out = [torch.full((heads, len(sections), 64, size), torch.nan, dtype=dtype) for _ in range(2)]
    codec.decode(0, sections, *out)
    return out


@given(st.sampled_from(ALL), st.lists(NUMBERS, min_size=1, max_size=64), st.lists(NUMBERS, min_size=1, max_size=64))
def test_keys_never_leave_their_bounds_whatever_the_numbers(name: str, one: list[float], two: list[float]) -> None:
    columns = [(numbers * 64)[:64] for numbers in (one, two)]
    keys = torch.tensor(columns).T[None].to(KINDS.get(name, torch.float32)).contiguous()
    codec = RowCodec([(1, 2)], [name])
    sections = codec.encode(0, keys, torch.zeros_like(keys))[None]
    low, high, mean = (part[0].float() for part in codec.digest(0, sections))
    for stored in (keys.float(), decoded(codec, sections)[0][:, 0], mean[:, None]):
        assert (stored >= low[:, None]).all()
        assert (stored <= high[:, None]).all()


@given(st.sampled_from(["int8", "int4"]), st.lists(NUMBERS, min_size=1, max_size=64))
def test_half_precision_keys_keep_their_bounds_in_half_precision(name: str, numbers: list[float]) -> None:
    column = (numbers * 64)[:64]
    codec = RowCodec([(1, 2)], [name])
    for dtype in (torch.float16, torch.bfloat16):
        keys = torch.tensor([column, column]).T[None].to(dtype).clamp(-60000, 60000).contiguous()
        keys = torch.where(keys.abs() < 1e-3, torch.zeros_like(keys), keys)
        sections = codec.encode(0, keys, torch.zeros_like(keys))[None]
        low, high, _ = (part[0].float() for part in codec.digest(0, sections))
        back = decoded(codec, sections, dtype)[0][:, 0].float()
        assert (back >= low[:, None]).all()
        assert (back <= high[:, None]).all()


@pytest.mark.parametrize("name", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_destination_gets_the_rounded_numbers(name: str, dtype: torch.dtype) -> None:
    codec, numbers = RowCodec([(2, 64)], [name]), random_chunk(2, 64)
    sections = codec.encode(0, numbers, numbers)[None]
    for exact, rounded in zip(decoded(codec, sections), decoded(codec, sections, dtype), strict=True):
        assert torch.allclose(rounded.float(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("heads", "size"), [(1, 2), (3, 64), (2, 80), (1, 96), (2, 128), (1, 256)])
def test_sections_inside_rows_are_decoded_where_they_lie(name: str, heads: int, size: int) -> None:
    codec = RowCodec([(heads, size)] * 2, [name] * 2)
    layout, dtype = Layout(codec.sections), KINDS.get(name, torch.float32)
    chunks = [random_chunk(heads, size, seed).to(dtype) for seed in range(3)]
    sections = torch.stack([codec.encode(1, one, one * 2) for one in chunks])
    rows = torch.zeros(3, layout.stride, dtype=torch.uint8)
    rows[:, layout.offsets[1] : layout.offsets[1] + codec.sections[1]] = sections
    inside = rows[:, layout.offsets[1] : layout.offsets[1] + codec.sections[1]]
    for apart, within in zip(decoded(codec, sections), decoded(codec, inside), strict=True):
        assert torch.equal(apart, within)
    tolerance = {"int8": 0.04, "int4": 0.6}.get(name, 0.0)
    for index, one in enumerate(chunks):
        keys, values = decoded(codec, inside[index : index + 1])
        assert (keys[:, 0] - one).abs().max() <= tolerance
        assert (values[:, 0] - one * 2).abs().max() <= 2 * tolerance


def test_int4_values_have_a_range_for_every_group() -> None:
    values = random_chunk(1, 128)
    values[..., VALUE_GROUP:] *= 1000
    codec = RowCodec([(1, 128)], ["int4"])
    back = decoded(codec, codec.encode(0, values, values)[None])[1][:, 0]
    assert (back - values)[..., :VALUE_GROUP].abs().max() < 0.5


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_chunk_of_equal_numbers_comes_back_exactly(name: str) -> None:
    numbers = torch.full((2, 64, 8), 0.5)
    codec = RowCodec([(2, 8)], [name])
    for part in decoded(codec, codec.encode(0, numbers, numbers)[None]):
        assert torch.equal(part[:, 0], numbers)


@pytest.mark.parametrize("name", ["int8", "int4"])
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan, 65520.0, -1e30])
def test_values_that_cannot_come_back_are_refused(name: str, bad: float) -> None:
    values = random_chunk(2, 8)
    values[1, 60, 7] = bad
    with pytest.raises(CodecError, match="not finite or too large"):
        RowCodec([(2, 8)], [name]).encode(0, random_chunk(2, 8), values)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", "fp32"), ("fp16", "fp32"), ("bf16", "fp16"), ("fp16", "bf16")])
def test_a_lossless_codec_refuses_to_lose_digits(name: str, dtype: str) -> None:
    numbers = random_chunk(2, 8).to(KINDS[dtype])
    with pytest.raises(CodecError, match="loses digits"):
        RowCodec([(2, 8)], [name]).encode(0, numbers, numbers)


@pytest.mark.parametrize(("name", "size"), [("int4", 130), ("int8", 7), ("fp32", 3)])
def test_heads_of_odd_sizes_are_refused(name: str, size: int) -> None:
    with pytest.raises(CodecError, match=f"size {size}"):
        RowCodec([(1, size)], [name])


def test_codecs_and_dtypes_that_do_not_exist_are_named() -> None:
    with pytest.raises(CodecError, match=r"'int2'\. Choose one of: fp32, bf16, fp16, int8, int4"):
        RowCodec([(1, 8)], ["int2"])
    with pytest.raises(CodecError, match="Choose one of: lossless, int8, int4"):
        layer_codecs("zip", 2, torch.float32)
    with pytest.raises(CodecError, match=r"no lossless codec for torch\.float64"):
        layer_codecs("lossless", 2, torch.float64)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("model", REAL)
def test_a_token_of_a_real_model_takes_what_the_arithmetic_says(model: str, name: str) -> None:
    layers, heads, size = REAL[model]
    bits = {"int8": 8, "int4": 4}.get(name) or KINDS[name].itemsize * 8
    groups = 0 if name in KINDS else -(-size // VALUE_GROUP) if name == "int4" else 1
    numbers = 2 * heads * size * bits / 8
    ranges = 2 * 2 * heads * groups
    digest = 3 * 2 * heads * size / 64
    codec = RowCodec([(heads, size)] * layers, [name] * layers)
    stored = Layout(codec.sections).stride / 64
    planned = layers * (numbers + ranges + digest)
    assert planned <= stored <= 1.03 * planned


@pytest.mark.parametrize("name", ["fp32", "int8", "int4"])
def test_the_largest_numbers_of_fp16_can_be_stored_and_no_larger_ones(name: str) -> None:
    keys, codec = random_chunk(1, 2), RowCodec([(1, 2)], [name])
    keys[0, 3, 1], keys[0, 4, 1] = 65504.0, -65504.0
    _, high, _ = codec.digest(0, codec.encode(0, keys, keys)[None])
    assert high[0, 0, 1] == 65504.0
    keys[0, 3, 1] = 65504.01
    with pytest.raises(CodecError, match="not finite or too large"):
        codec.encode(0, keys, keys)
