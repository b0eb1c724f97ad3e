"""A decoder layer in as few operations as a token can be had with, in place of transformers' own.

One matrix for query, key and value and one for gate and up projection; one rotation for queries and keys together. It
computes what the layer it is made of computes, for the kinds of models listed here; others keep their layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from memory.attention import Beyond, Tap, attention
from memory.geometry import Geometry

KINDS = ("llama", "mistral", "qwen2", "qwen3")

Linear = Callable[[Tensor, Tensor | None], nn.Module]
"""Makes a linear layer of a matrix [outputs, inputs] and a bias."""


class LeanLayer(nn.Module):
    """A decoder layer of one of `KINDS`; batch size 1, always with a cache."""

    def __init__(self, layer: Any, window: int | None, linear: Linear) -> None:
        super().__init__()
        own, mlp = layer.self_attn, layer.mlp
        self.layer_idx, self.scale, self.window = own.layer_idx, own.scaling, window
        self.size: int = own.head_dim
        self.heads = own.q_proj.out_features // self.size
        self.turned = self.heads + own.k_proj.out_features // self.size
        self.mixed = _joined((own.q_proj, own.k_proj, own.v_proj), linear)
        self.out = _joined((own.o_proj,), linear)
        self.gate_up = _joined((mlp.gate_proj, mlp.up_proj), linear)
        self.down = _joined((mlp.down_proj,), linear)
        self.before, self.after = layer.input_layernorm, layer.post_attention_layernorm
        self.q_norm, self.k_norm = getattr(own, "q_norm", None), getattr(own, "k_norm", None)
        half = self.size // 2
        self.register_buffer("sign", torch.cat((-torch.ones(half), torch.ones(half))), persistent=False)
        self.sign: Tensor

    def forward(
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        past_key_values: Any,
        tap: Tap | None = None,
        beyond: Beyond | None = None,
        **_: Any,
    ) -> Tensor:
        """`hidden_states` [1, tokens, hidden] -> the same shape; `position_embeddings` [1, tokens, head size] each."""
        tokens = hidden_states.shape[1]
        mixed = self.mixed(_normed(hidden_states, self.before)).view(1, tokens, -1, self.size)
        turned = self._turn(self._head_normed(mixed[:, :, : self.turned]), *position_embeddings).transpose(1, 2)
        value = mixed[:, :, self.turned :].transpose(1, 2)
        keys, values = past_key_values.update(turned[:, self.heads :], value, self.layer_idx)
        query = turned[:, : self.heads]
        found, _none = attention(
            self, query, keys, values, scaling=self.scale, sliding_window=self.window, tap=tap, beyond=beyond
        )
        hidden_states = hidden_states + self.out(found.reshape(1, tokens, -1))
        gate, up = self.gate_up(_normed(hidden_states, self.after)).chunk(2, -1)
        moved: Tensor = hidden_states + self.down(silu(gate) * up)
        return moved

    def _turn(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries and keys [1, tokens, heads, size] at their positions."""
        return torch.addcmul(heads * cos[:, :, None], heads.roll(self.size // 2, -1), (sin * self.sign)[:, :, None])

    def _head_normed(self, heads: Tensor) -> Tensor:
        if self.q_norm is None or self.k_norm is None:
            return heads
        query, key = heads[:, :, : self.heads], heads[:, :, self.heads :]
        return torch.cat((_normed(query, self.q_norm), _normed(key, self.k_norm)), 2)


def can_be_lean(config: Any) -> bool:
    """Whether the layers of a model with this configuration can be replaced."""
    rope = getattr(config, "rope_parameters", None) or {}
    whole = rope.get("partial_rotary_factor", 1.0) == 1.0
    return config.model_type in KINDS and config.hidden_act == "silu" and whole


def lean(model: Any, linear: Linear, pool: Executor) -> None:
    """Replace every decoder layer of `model`, with linear layers as `linear` makes them, several at once in `pool`."""
    windows = [layer.window for layer in Geometry.from_config(model.config.to_dict()).layers]
    layers = model.get_decoder().layers
    made = pool.map(partial(LeanLayer, linear=linear), layers, windows)
    for index, layer in enumerate(made):
        layers[index] = layer


def _joined(linears: Sequence[Any], linear: Linear) -> nn.Module:
    """One linear layer in place of several with equal inputs."""
    weight = torch.cat([one.weight for one in linears])
    biases = [one.bias for one in linears]
    if all(bias is None for bias in biases):
        return linear(weight, None)
    filled = [weight.new_zeros(one.out_features) if one.bias is None else one.bias for one in linears]
    return linear(weight, torch.cat(filled))


def _normed(states: Tensor, norm: Any) -> Tensor:
    """`states` [..., size] by their root mean square; one token's by two operations in place of torch's seven."""
    size = states.shape[-1]
    if states.numel() > size or states.device.type != "cpu":
        return rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)
    only, weight = states.view(size), cast(Tensor, norm.weight)
    return states * (weight / math.sqrt(float(only.dot(only)) / size + norm.variance_epsilon))
