"""Codecs of sealed chunks: keys per channel inside the chunk, values per token, nothing is ever encoded twice.

The range of the keys that a quantised chunk needs anyway is also its digest for recall (LeoAM, Quest): `low` is rounded
down and `high` up to fp16, so that the bound holds for the keys as they were and as they come back. The mean key stands
beside them. Lossless codecs carry the same digest.

A section is one layer's part of a row, in this order: low, high, mean (fp16 [KV heads, size] each), keys, the values'
low and high (fp16, quantised codecs only), values. `docs/format.md` has it byte by byte.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memory.block import CHUNK
from memory.errors import CodecError
from memory.geometry import Geometry

LOSSLESS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BITS = {"int8": 8, "int4": 4}
VALUE_GROUP = 64
"""Dimensions of a value that share a range in int4."""

_SHRINK = 2.0**-21
"""Taken off the step between two codes, so that rounding never carries the highest code above `high`."""

_LARGE_BIAS = 4.0
"""A layer's key bias is unusually large when its norm is this many times the median layer's."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of numbers in a section: where it starts (at a multiple of their size), its bytes and its shape."""

    start: int
    size: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def of(self, sections: Tensor) -> Tensor:
        """The part of every section [n, bytes], as a view [n, *shape]."""
        piece = sections[:, self.start : self.start + self.size]
        return split(piece.view(self.dtype), 1, self.shape)


class RowCodec:
    """Encodes and decodes the chunks of every layer; `sections` are the encoded bytes a layer."""

    def __init__(
        self, shapes: Sequence[tuple[int, int]], names: Sequence[str], protected: Collection[int] = ()
    ) -> None:
        """`shapes`: (KV heads, head size) and `names`: codec, one of each a layer.

        Raises:
            CodecError: a name is unknown, or a protected layer is to be kept in int4.
        """
        for layer, name in enumerate(names):
            if name not in LOSSLESS and name not in BITS:
                raise CodecError(f"There is no codec {name!r}. Choose one of: {', '.join([*LOSSLESS, *BITS])}.")
            if name == "int4" and layer in protected:
                raise CodecError(
                    f"Layer {layer} of this model has keys too large for int4; int8 is the least it takes."
                )
        self.shapes = [tuple(shape) for shape in shapes]
        self.names = tuple(names)
        self._parts = [_parts(*shape, name) for shape, name in zip(shapes, names, strict=True)]
        self.sections = tuple(sum(part.size for part in parts.values()) for parts in self._parts)

    def encode(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """One layer's chunk, [KV heads, 64, size] each, as bytes: uint8 [section bytes].

        Raises:
            CodecError: a number is not finite or beyond fp16, or a lossless codec cannot hold these without loss.
        """
        self._refuse_loss(layer, keys, values)
        exact = keys.to(torch.float32)
        low, high = _outward(exact.amin(1), exact.amax(1))
        numbers = {"ends": torch.stack((low, high)), "mean": exact.mean(1).to(torch.float16)}
        name = self.names[layer]
        if name in LOSSLESS:
            numbers |= {"keys": keys, "values": values}
        else:
            numbers |= _quantised(exact, low, high, values.to(torch.float32), BITS[name])
        return self._packed(layer, numbers)

    def decode(self, layer: int, sections: Tensor, keys_out: Tensor, values_out: Tensor) -> None:
        """Sections [n, bytes] into [KV heads, n, 64, size] views of any floating dtype, on the same device."""
        parts, name = self._parts[layer], self.names[layer]
        keys, values = keys_out.transpose(0, 1), values_out.transpose(0, 1)
        if name in LOSSLESS:
            keys.copy_(parts["keys"].of(sections))
            values.copy_(parts["values"].of(sections))
            return
        _restore(parts, sections, BITS[name], keys, values)

    def keys(self, layer: int, sections: Tensor, out: Tensor) -> None:
        """The keys alone of sections [n, bytes] into a [KV heads, n, 64, size] view of any floating dtype."""
        parts, name = self._parts[layer], self.names[layer]
        keys = out.transpose(0, 1)
        if name in LOSSLESS:
            keys.copy_(parts["keys"].of(sections))
            return
        _unpack(parts["keys"].of(sections), BITS[name], keys)
        _scale(keys, parts["ends"].of(sections)[..., None, :], BITS[name])

    def dots(self, layer: int, sections: Tensor, queries: Tensor, room: Tensor) -> Tensor:
        """`queries` fp32 times the keys of sections [rows, bytes]: [KV heads, n, rows, 64].

        `queries` are [KV heads, n, size], or [KV heads, rows, n, size] where each row is asked by its own. `room` fp32
        [rows x KV heads x 64 x size] is written over. The keys' low ends are taken out of the sum, so that codes need
        one multiplication and no addition each.
        """
        parts, name = self._parts[layer], self.names[layer]
        kv_heads, size = self.shapes[layer]
        keys = room[: kv_heads * sections.shape[0] * CHUNK * size].view(kv_heads, -1, CHUNK, size)
        found = parts["keys"].of(sections).transpose(0, 1)
        if name in LOSSLESS:
            return _products(queries, keys.copy_(found))
        _unpack(found, BITS[name], keys)
        low, step = _steps(parts["ends"].of(sections).permute(1, 2, 0, 3), BITS[name])
        keys.mul_(step[:, :, None])
        return _products(queries, keys).add_(_products(queries, low[:, :, None]))

    def key_bytes(self, layer: int) -> int:
        """Bytes from a section's start to the end of its keys: what scoring has to read."""
        part = self._parts[layer]["keys"]
        return part.start + part.size

    def tokens(self, layer: int, sections: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [n, size] of single tokens, fp32; `places` [3, n] = (section, head, token in its chunk)."""
        parts, name = self._parts[layer], self.names[layer]
        at, head, token = places.unbind()
        keys, values = (parts[key].of(sections)[at, head, token] for key in ("keys", "values"))
        if name in LOSSLESS:
            return keys.to(torch.float32), values.to(torch.float32)
        bits, size = BITS[name], self.shapes[layer][1]
        wide = torch.empty((2, at.numel(), size))
        _unpack(keys, bits, wide[0])
        _unpack(values, bits, wide[1])
        _scale(wide[0], parts["ends"].of(sections)[at, :, head], bits)
        groups = parts["value_ends"].shape[-1]
        value_ends = parts["value_ends"].of(sections)[at, :, head, token]
        _scale(split(wide[1], -1, (groups, size // groups)), value_ends[..., None], bits)
        return wide[0], wide[1]

    def digest(self, layer: int, sections: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(low, high, mean) of the keys of each section [n, bytes]: fp16 [n, KV heads, size] each."""
        ends = self._parts[layer]["ends"].of(sections)
        return ends[:, 0], ends[:, 1], self._parts[layer]["mean"].of(sections)

    def mean_values(self, layer: int, sections: Tensor) -> Tensor:
        """The mean over the tokens of each section's values, fp32 [n, KV heads, size]."""
        parts, name = self._parts[layer], self.names[layer]
        found = parts["values"].of(sections)
        if name in LOSSLESS:
            return found.to(torch.float32).mean(2)
        values = torch.empty((*found.shape[:3], self.shapes[layer][1]))
        _restore_values(parts, sections, BITS[name], values)
        return values.mean(2)

    def _refuse_loss(self, layer: int, *numbers: Tensor) -> None:
        kind = LOSSLESS.get(self.names[layer])
        for part in numbers:
            if kind is not None and torch.promote_types(part.dtype, kind) != kind:
                raise CodecError(f"Layer {layer} is kept in {self.names[layer]}, which loses digits of {part.dtype}.")

    def _packed(self, layer: int, numbers: dict[str, Tensor]) -> Tensor:
        section = torch.empty(self.sections[layer], dtype=torch.uint8)
        for key, part in self._parts[layer].items():
            data = numbers[key].to(part.dtype).contiguous()
            if not bool(torch.isfinite(data).all()):
                raise CodecError(f"Layer {layer} has numbers that are not finite or too large to be stored.")
            section[part.start : part.start + part.size] = data.view(-1).view(torch.uint8)
        return section


def layer_codecs(name: str, layers: int, dtype: torch.dtype, protected: Collection[int] = ()) -> list[str]:
    """One codec a layer for the setting "lossless", "int8" or "int4"; protected layers stay at 8 bit.

    Raises:
        CodecError: no such setting, or a dtype that nothing stores without loss.
    """
    if name == "lossless":
        found = next((own for own, kind in LOSSLESS.items() if kind == dtype), None)
        if found is None:
            raise CodecError(f"There is no lossless codec for {dtype}.")
        return [found] * layers
    if name not in BITS:
        raise CodecError(f"There is no codec {name!r}. Choose one of: lossless, int8, int4.")
    return ["int8" if layer in protected else name for layer in range(layers)]


def protected_layers(model: nn.Module) -> frozenset[int]:
    """Layers that stay at 8 bit or more: the first, the last and those with large key biases (Qwen2, Qwen2.5).

    Models without key biases have none.
    """
    projections = [module for path, module in model.named_modules() if path.endswith("k_proj")]
    biases: list[Any] = [getattr(module, "bias", None) for module in projections]
    if not biases or any(bias is None for bias in biases):
        return frozenset()
    norms = torch.stack([bias.detach().to(torch.float32).norm().cpu() for bias in biases])
    large = (norms > _LARGE_BIAS * norms.median()).nonzero().flatten().tolist()
    return frozenset({0, len(biases) - 1, *large})


def make_codecs(geometry: Geometry, name: str, dtype: torch.dtype, model: nn.Module) -> tuple[RowCodec, RowCodec]:
    """The codec of sealed rows, and the lossless one of the open chunk."""
    shapes = [(layer.kv_heads, layer.head_dim) for layer in geometry.layers]
    protected = protected_layers(model)
    sealed = RowCodec(shapes, layer_codecs(name, len(shapes), dtype, protected), protected=protected)
    return sealed, RowCodec(shapes, layer_codecs("lossless", len(shapes), dtype, protected))


def split(tensor: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """`tensor`, of any shape, with dimension `dim` divided into `shape`, as a view."""
    return tensor.unflatten(dim, tuple(shape))  # type: ignore[no-untyped-call, no-any-return]


def _products(queries: Tensor, keys: Tensor) -> Tensor:
    """`queries` [KV heads, n, size], or [KV heads, rows, n, size], times `keys` [KV heads, rows, m, size]: [KV heads,
    n, rows, m]."""
    if queries.dim() == keys.dim():
        return (queries @ keys.transpose(2, 3)).transpose(1, 2).contiguous()
    return split(queries @ keys.flatten(1, 2).transpose(1, 2), -1, keys.shape[1:3])


def _parts(kv_heads: int, size: int, name: str) -> dict[str, _Part]:
    groups = -(-size // VALUE_GROUP) if name == "int4" else 1
    if size % groups or size % 2:
        raise CodecError(f"Heads of size {size} cannot be stored in {name}.")
    plain = LOSSLESS.get(name, torch.uint8)
    packed = size // 2 if name == "int4" else size
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "ends": (torch.float16, (2, kv_heads, size)),
        "mean": (torch.float16, (kv_heads, size)),
        "keys": (plain, (kv_heads, CHUNK, packed)),
    }
    if name in BITS:
        shapes["value_ends"] = torch.float16, (2, kv_heads, CHUNK, groups)
    shapes["values"] = plain, (kv_heads, CHUNK, packed)
    parts, start = dict[str, _Part](), 0
    for key, (dtype, shape) in shapes.items():
        size_bytes = dtype.itemsize * torch.Size(shape).numel()
        parts[key] = _Part(start, size_bytes, dtype, shape)
        start += size_bytes
    return parts


def _outward(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """fp16 numbers at or below `low` and at or above `high`."""
    down, up = low.to(torch.float16), high.to(torch.float16)
    infinity = torch.tensor(torch.inf, dtype=torch.float16, device=low.device)
    down = torch.where(down.to(torch.float32) > low, torch.nextafter(down, -infinity), down)
    return down, torch.where(up.to(torch.float32) < high, torch.nextafter(up, infinity), up)


def _codes(numbers: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """round((x - low) / (high - low) * levels) in 0..levels; a range of nothing gives 0."""
    levels = 2**bits - 1
    spread = (high - low).to(torch.float32)
    scaled = (numbers - low) * torch.where(spread > 0, levels / spread, 0.0)
    return scaled.round_().clamp_(0, levels).to(torch.uint8)


def _quantised(keys: Tensor, low: Tensor, high: Tensor, values: Tensor, bits: int) -> dict[str, Tensor]:
    groups = -(-values.shape[-1] // VALUE_GROUP) if bits == 4 else 1
    grouped = split(values, -1, (groups, values.shape[-1] // groups))
    bottom, top = _outward(grouped.amin(-1), grouped.amax(-1))
    key_codes = _codes(keys, low[:, None].to(torch.float32), high[:, None].to(torch.float32), bits)
    value_codes = _codes(grouped, bottom[..., None].to(torch.float32), top[..., None].to(torch.float32), bits)
    return {
        "keys": _pack(key_codes, bits),
        "value_ends": torch.stack((bottom, top)),
        "values": _pack(value_codes.flatten(-2), bits),
    }


def _pack(codes: Tensor, bits: int) -> Tensor:
    """Two 4-bit codes a byte, the even dimension in the low half."""
    return codes if bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)


def _unpack(codes: Tensor, bits: int, out: Tensor) -> None:
    """The inverse of `_pack`, as floating numbers."""
    if bits == 8:
        out.copy_(codes)
        return
    out[..., 0::2].copy_(codes & 15)
    out[..., 1::2].copy_(codes >> 4)


def _restore(parts: Mapping[str, _Part], sections: Tensor, bits: int, keys: Tensor, values: Tensor) -> None:
    """Quantised sections [n, bytes] into [n, KV heads, 64, size] each.

    Codes are converted where the numbers shall be and scaled there, so that no copy of the result is made beside it.
    """
    _unpack(parts["keys"].of(sections), bits, keys)
    _scale(keys, parts["ends"].of(sections)[..., None, :], bits)
    _restore_values(parts, sections, bits, values)


def _restore_values(parts: Mapping[str, _Part], sections: Tensor, bits: int, values: Tensor) -> None:
    _unpack(parts["values"].of(sections), bits, values)
    groups = parts["value_ends"].shape[-1]
    _scale(split(values, -1, (groups, values.shape[-1] // groups)), parts["value_ends"].of(sections)[..., None], bits)


def _scale(codes: Tensor, ends: Tensor, bits: int) -> None:
    """codes -> low + codes * (high - low) / levels, never above high; `ends` [n, 2 (low, high), ...] broadcast."""
    low, step = _steps(ends.transpose(0, 1), bits)
    if step.shape[-1] == 1 and codes.dtype == torch.float32:
        codes.mul_(step).add_(low)  # a third of addcmul's time where one range covers a whole run of numbers
    else:
        torch.addcmul(low, codes, step, out=codes)


def _steps(ends: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """`ends` [2 (low, high), ...] as the lowest number and the distance of two codes, fp32."""
    low, high = ends.to(torch.float32).unbind(0)
    return low, (high - low) * ((1 - _SHRINK) / (2**bits - 1))
