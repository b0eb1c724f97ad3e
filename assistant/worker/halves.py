"""Matrices in half precision on a CPU: stored in fp16, multiplied in fp32.

Every token of a reply reads every weight once, and what it takes is the time to read them: half the bytes, about half
the time. Activations and sums stay in fp32. torch multiplies like that on x86 only (FBGEMM).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from assistant.fit import packed_bytes
from assistant.worker.lean import can_be_lean, lean

PACKERS = 4
"""Matrices packed at once: torch packs one with one thread, and takes it in fp32 for that."""


class HalfLinear(nn.Module):
    """A linear layer whose matrix [outputs, inputs] is kept in fp16; inputs and outputs are fp32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias.to(torch.float32), requires_grad=False)
        self._packed = torch.ops.quantized.linear_prepack_fp16(_checked(weight).to(torch.float32), self.bias)

    @property
    def nbytes(self) -> int:
        """Bytes of the matrix, padding included."""
        return packed_bytes(self.out_features, self.in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        product: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(inputs, self._packed)
        return product


class HalfEmbedding(nn.Module):
    """Embeddings [vocabulary, size] that are kept in fp16 and looked up as fp32."""

    def __init__(self, embeddings: Any) -> None:
        super().__init__()
        weight = _checked(embeddings.weight).to(torch.float16, copy=True)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = float(getattr(embeddings, "scalar_embed_scale", 1.0))

    def forward(self, ids: Tensor) -> Tensor:
        """[..., tokens] -> [..., tokens, size]."""
        return embedding(ids, self.weight).to(torch.float32) * self.scale


def can_halve(device: torch.device) -> bool:
    """Whether torch multiplies fp16 matrices with fp32 activations on this device."""
    return device.type == "cpu" and torch.backends.quantized.engine in ("x86", "fbgemm")


def halve(model: Any) -> None:
    """Replace every linear layer of `model`, the output head too, by one in fp16; the embeddings are kept in fp16,
    everything else in fp32. Decoder layers become lean ones where that is known how.

    Raises:
        OverflowError: a weight is too large for fp16.
    """
    with ThreadPoolExecutor(min(torch.get_num_threads(), PACKERS)) as pool:
        if can_be_lean(model.config):
            lean(model, HalfLinear, pool)
        linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
        made = pool.map(lambda one: HalfLinear(one.weight, one.bias), linears.values())
        for path, module in zip(linears, made, strict=True):
            model.set_submodule(path, module)
    halved = HalfEmbedding(model.get_input_embeddings())
    model.set_input_embeddings(halved)
    for parameter in model.parameters():
        if parameter is not halved.weight:
            parameter.data = parameter.data.to(torch.float32, copy=True)  # lets go of the mapped file


def _checked(weight: Tensor) -> Tensor:
    largest = max(abs(float(end)) for end in weight.detach().aminmax())
    if largest > torch.finfo(torch.float16).max:
        raise OverflowError(f"a weight of {largest:.3g} is too large")
    return weight
