"""Out of memory while reading: the block is halved, twice at most, and nothing is lost or doubled."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from memory.store import Memory
from tests.memory.models import full_logits, make_memory, roomy_plan, tokens


class Shortage:
    """Makes the model raise out-of-memory in its last layer, for blocks longer than `limit`."""

    def __init__(self, memory: Memory, limit: int) -> None:
        self.limit = limit
        self.lengths: list[int] = []
        layer = memory.reader.model.model.layers[-1]  # type: ignore[union-attr,index]
        self.handle = layer.mlp.register_forward_pre_hook(self.refuse)

    def refuse(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        self.lengths.append(inputs[0].shape[1])
        if inputs[0].shape[1] > self.limit:
            raise torch.OutOfMemoryError("the device is full")


@pytest.mark.parametrize("limit", [16, 31, 8])
def test_smaller_blocks_finish_the_reading(limit: int) -> None:
    ids = tokens(100)
    memory = make_memory("llama", roomy_plan("llama", 32))
    shortage = Shortage(memory, limit)
    try:
        logits = memory.read(ids)
    finally:
        shortage.handle.remove()
    assert max(shortage.lengths) == 32
    assert memory.tokens == ids
    assert memory.resident == 100
    assert torch.allclose(logits, full_logits("llama", ids)[-1], atol=1e-4)


def test_the_third_shortage_is_passed_on_and_the_memory_is_whole() -> None:
    ids = tokens(100)
    memory = make_memory("llama", roomy_plan("llama", 32))
    memory.read(ids[:10])
    shortage = Shortage(memory, 4)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            memory.read(ids[10:])
    finally:
        shortage.handle.remove()
    assert shortage.lengths == [32, 16, 8]
    assert (memory.resident, memory.tokens) == (10, ids[:10])
    assert torch.allclose(memory.read(ids[10:]), full_logits("llama", ids)[-1], atol=1e-4)
