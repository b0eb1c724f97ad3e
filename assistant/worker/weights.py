"""What the weight files of a model hold, beside what transformers makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def stored_dtype(folder: Path) -> torch.dtype:
    """The type of the largest tensor: loaded like that, matrices are mapped and not copied. fp32 for any other."""
    sizes = {name: torch.Size(file.get_slice(name).get_shape()).numel() for file, name in _tensors(folder)}
    largest = max(sizes, key=lambda name: sizes[name], default=None)
    kinds = [file.get_slice(name).get_dtype() for file, name in _tensors(folder) if name == largest]
    return _TYPES.get(kinds[0], torch.float32) if kinds else torch.float32


def restore_vectors(model: nn.Module, folder: Path) -> None:
    """Give norms and biases the numbers of the file where it has them in fp32 and the model in less."""
    less = {name: one for name, one in model.named_parameters() if one.ndim < 2 and one.dtype != torch.float32}
    for file, name in _tensors(folder):
        if name in less and file.get_slice(name).get_dtype() == "F32":
            less[name].data = file.get_tensor(name)


def _tensors(folder: Path) -> Iterator[tuple[Any, str]]:
    """Every open file and the name of each of its tensors."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                yield file, name
