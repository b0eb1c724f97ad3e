"""Measuring a model's layers: one text read twice, with everything before it and with the working set of block prefill.

Both readings go on side by side, block by block, so that only the KV of one text is ever held, and no tensor grows
with the square of its length. How attention spreads is looked at for every `STRIDE`-th token of the full reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from memory.attention import NAME, Tap, register
from memory.budget import PROCESS, Ledger, Plan, activation_bytes
from memory.cache import WorkingSet, WorkingSetLayer
from memory.geometry import FULL, SLIDING, Geometry
from memory.layers.profile import Profile
from memory.rope import layer_ropes

BLOCK = 128
"""Tokens of one step of both readings."""
SINKS = 4
"""First tokens that the blocked reading always sees."""
PART = 8
"""The blocked reading sees one in `PART` of the text besides its own block; selectivity asks for the best in `PART`."""
STRIDE = 16
"""Of so many tokens, one's attention is looked at."""
TOKENS = 1024
"""Tokens of the text that are read; reading on takes twice the time and changes little (correlation 0.99)."""
OUTLIERS = 0.02
"""The part of the tokens, those that drift most, that a layer's sensitivity leaves out. A few tokens become sinks or
cease to be ones as soon as anything before them is hidden, and make the mean depend on the text (decision 5)."""


def calibration_text() -> str:
    """The package's own neutral text of about 2,000 tokens: prose, numbers, a table, instructions, a dialogue."""
    return files("memory.layers").joinpath("calibration.txt").read_text("utf-8")


def measuring_bytes(geometry: Geometry, itemsize: int) -> int:
    """Bytes that `measure` takes at most beside the weights, KV numbers of `itemsize` bytes each.

    The KV of both readings, of the widest layer once more while it grows and as fp32 for a look at it, the activations
    of one block, and what the process grows by.
    """
    entries = TOKENS + TOKENS // PART + BLOCK
    widest = max(layer.kv_heads * layer.head_dim for layer in geometry.layers)
    kv = 2 * itemsize * entries * sum(layer.kv_heads * layer.head_dim for layer in geometry.layers)
    growing = 2 * TOKENS * widest * (2 * itemsize + 4)
    return kv + growing + activation_bytes(geometry, BLOCK, TOKENS, itemsize) + PROCESS


def measure(
    model: nn.Module, ids: Sequence[int], resident: int | None = None, dtype: torch.dtype | None = None
) -> Profile:
    """The profile of `model`, a transformers causal LM in evaluation mode, from the tokens `ids` of one text.

    Reads the first `TOKENS`, none past the trained window. `resident`: entries that the blocked reading keeps before
    each block, the first `SINKS` and the latest; default: one in `PART` of the tokens. `dtype`: of keys and values;
    default: that of the model's embeddings. The model is switched to this library's attention. Takes the KV of the
    tokens read and the activations of one block.

    Raises:
        UnsupportedModel: the model's attention is not standard.
        ValueError: the text is shorter than one block.
    """
    config: Any = model.config
    geometry = Geometry.from_config(config.to_dict())
    ids = ids[: min(TOKENS, geometry.window)]
    if len(ids) < BLOCK:
        raise ValueError(f"A layer profile needs a text of at least {BLOCK} tokens, and this one has {len(ids)}.")
    register()
    model.set_attn_implementation(NAME)  # type: ignore[operator]
    layers = [index for index, layer in enumerate(geometry.layers) if layer.window is None]
    resident = max(resident or len(ids) // PART, SINKS + 1)
    sizes = len(ids), min(resident, len(ids)) + BLOCK
    full, blocked = (_room(model, geometry, entries, dtype) for entries in sizes)
    readings = _Readings(model, full, blocked, layers, resident)
    with torch.inference_mode():
        for first in range(0, len(ids), BLOCK):
            readings.read(ids[first : first + BLOCK], first)
    return readings.profile(len(geometry.layers))


class _Readings:
    """Two readings of one text, and what was seen at its tokens."""

    def __init__(
        self, model: nn.Module, full: WorkingSet, blocked: WorkingSet, layers: Sequence[int], resident: int
    ) -> None:
        self.model, self.full, self.blocked, self.resident = model, full, blocked, resident
        self.drift: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        self.focus: dict[int, list[float]] = {layer: [] for layer in layers}

    def read(self, piece: Sequence[int], first: int) -> None:
        """One block in both readings; afterwards the blocked one keeps its sinks and the latest."""
        self._forward(self.full, piece, first, self._look)
        self._forward(self.blocked, piece, first, None)
        for layer, drift in self.drift.items():
            drift.append(_drift(self._keys(self.full, layer), self._keys(self.blocked, layer), len(piece)))
            self._cut(self.blocked.layers[layer])

    def profile(self, layers: int) -> Profile:
        """The means, None for layers that were not measured."""
        drift = {layer: _usual(torch.cat(parts)) for layer, parts in self.drift.items()}
        focus = {layer: fmean(parts) for layer, parts in self.focus.items()}
        return Profile(tuple(map(drift.get, range(layers))), tuple(map(focus.get, range(layers))))

    def _forward(self, cache: WorkingSet, piece: Sequence[int], first: int, tap: Tap | None) -> None:
        device = cache.layers[0].device
        cache.trim(len(piece))
        self.model(
            input_ids=torch.tensor([list(piece)], device=device),
            position_ids=torch.arange(first, first + len(piece), device=device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            tap=tap,
        )

    def _look(self, layer: int, queries: Tensor, scale: float) -> None:
        """Add, of the tokens looked at, the share of attention that their strongest keys get."""
        if layer not in self.focus:
            return
        keys = self._keys(self.full, layer)
        first = keys.shape[1] - queries.shape[2]
        for place in _looked_at(first, queries.shape[2]):
            self.focus[layer].append(_concentration(queries[0, :, place - first], keys[:, : place + 1], scale).item())

    def _keys(self, cache: WorkingSet, layer: int) -> Tensor:
        return cache.layers[layer].stored[0]

    def _cut(self, layer: WorkingSetLayer) -> None:
        if layer.length > self.resident:
            sinks = torch.arange(SINKS, device=layer.device)
            latest = torch.arange(layer.length - self.resident + SINKS, layer.length, device=layer.device)
            layer.keep(torch.cat((sinks, latest)).expand(layer.shape.kv_heads, -1))


def _room(model: nn.Module, geometry: Geometry, entries: int, dtype: torch.dtype | None) -> WorkingSet:
    """An empty working set of `entries` in every layer, allocated once: caches that grow leave holes in the heap."""
    weight: Any = model.get_input_embeddings().weight  # type: ignore[operator]
    ropes = layer_ropes(model, [SLIDING if layer.window else FULL for layer in geometry.layers])
    plan = Plan(0, 0, 0, 0, 0, capacity=entries, block=BLOCK, patch=0)
    return WorkingSet(geometry, plan, ropes, dtype or weight.dtype, weight.device, Ledger(0))


def _looked_at(first: int, count: int) -> range:
    """The positions in [first, first + count) whose attention is looked at."""
    return range(first + (STRIDE - 1 - first) % STRIDE, first + count, STRIDE)


def _drift(full: Tensor, blocked: Tensor, newest: int) -> Tensor:
    """1 - mean cosine over heads of the `newest` keys, [tokens]; keys [KV heads, entries, size]."""
    first, second = (keys[:, -newest:].to(torch.float32) for keys in (full, blocked))
    return 1 - cosine_similarity(first, second, dim=-1).mean(0)


def _usual(drift: Tensor) -> float:
    """The mean over the tokens, outliers left out; rounding may put it a hair below 0."""
    usual = drift.sort().values[: drift.numel() - round(OUTLIERS * drift.numel())]
    return max(usual.mean().item(), 0.0)


def _concentration(query: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Mean over heads of the attention that the strongest keys, one in `PART`, get; [query heads, size] over
    [KV heads, entries, size]."""
    groups = query.to(torch.float32).view(keys.shape[0], -1, query.shape[-1])
    attention = (groups @ keys.to(torch.float32).transpose(1, 2)).mul_(scale).softmax(-1)
    return attention.topk(-(-keys.shape[1] // PART), dim=-1).values.sum(-1).mean()
