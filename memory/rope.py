"""Rotary positions of a model's layers: moving a key from one position to another, in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memory.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Rope:
    """Inverse frequencies [rotated dims / 2] of one layer, scaled as the model scales them (Llama-3, YaRN)."""

    inverse_frequencies: Tensor

    def rotate(self, keys: Tensor, distance: Tensor) -> Tensor:
        """`keys` [entries, head size] moved by `distance` [entries] positions, in fp32.

        Rotations compose: R(new) k = R(new - old) R(old) k (RoFormer, section 3.2.2), so the key's own rotation is
        the start and the model's constant attention factor does not matter. Dimensions past the rotated ones stay.
        """
        half = self.inverse_frequencies.numel()
        angle = distance.to(torch.float32)[:, None] * self.inverse_frequencies.to(keys.device)
        cos, sin = angle.cos(), angle.sin()
        moved = keys.to(torch.float32, copy=True)
        first, second = keys[:, :half].to(torch.float32), keys[:, half : 2 * half].to(torch.float32)
        moved[:, :half] = first * cos - second * sin
        moved[:, half : 2 * half] = second * cos + first * sin
        return moved


def layer_ropes(model: nn.Module, layer_types: list[str]) -> list[Rope]:
    """One `Rope` per layer of a transformers model, from its rotary module's buffers.

    Raises:
        UnsupportedModel: the model has no rotary module, so its keys cannot be moved.
    """
    rotary = next((module for name, module in model.named_modules() if name.endswith("rotary_emb")), None)
    if rotary is None:
        raise UnsupportedModel("The model has no rotary positions, so its KV cannot outlive the trained window.")
    return [Rope(_frequencies(rotary, kind)) for kind in layer_types]


def _frequencies(rotary: Any, layer_type: str) -> Tensor:
    found = getattr(rotary, f"{layer_type}_inv_freq", None)
    frequencies = rotary.inv_freq if found is None else found
    return torch.as_tensor(frequencies).detach().to(torch.float32)
