"""Counts the bytes of every tensor that operations make, while they live: the CPU's stand-in for an allocator."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorPeak(TorchDispatchMode):
    """`with TensorPeak() as gauge:` ... `gauge.peak` is the most bytes of new storages alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, list[int]] = {}
        self.known: set[int] = set()
        self.now = self.peak = 0

    def ignore(self, tensors: Any) -> None:
        """Tensors that were there before (weights) do not count, nor do views of them."""
        self.known = {tensor.untyped_storage().data_ptr() for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if issubclass(type(leaf), torch.Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self.known:
            return
        entry = self.alive.setdefault(place, [size, 0])
        if entry[1] == 0:
            self.now += size
            self.peak = max(self.peak, self.now)
        entry[1] += 1
        weakref.finalize(tensor, self._release, place)

    def _release(self, place: int) -> None:
        entry = self.alive[place]
        entry[1] -= 1
        if entry[1] == 0:
            self.now -= entry[0]
            del self.alive[place]
