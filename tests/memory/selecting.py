"""A memory that selects over stored KV, and what the tests of that look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from memory.policy import Policy
from memory.selection import StoredScores
from memory.store import Memory, make_policy
from tests.memory.models import make_plan, model_pair, tokens
from tests.memory.tiers import make_spill, read_all

TEXT = tokens(1400, 5)
ONE, OTHER = tokens(40, 7), tokens(30, 8)


@contextmanager
def selecting(
    folder: Path,
    kind: str = "llama",
    capacity: int = 240,
    policy: str | Policy = "episodic",
    mode: Any = "auto",
    **spill: Any,
) -> Iterator[Memory]:
    tiers = make_spill(kind, folder, **spill)
    try:
        plan = make_plan(kind, capacity, 32)
        chosen = make_policy(policy) if isinstance(policy, str) else policy
        memory = Memory(model_pair(kind)[0], plan, chosen, tokens(12, 99), spill=tiers, mode=mode)
        memory.open("chat")
        yield memory
    finally:
        tiers.close()


def read_turn(memory: Memory, ids: list[int]) -> None:
    """A turn is read and stored, and the next one begins."""
    read_all(memory, ids)
    memory.seal()
    memory.resume([*ids, 1])


def residents(memory: Memory) -> list[torch.Tensor]:
    """Everything that is on the device: where it comes from, keys and values."""
    return [part.clone() for layer in memory.working_set.bounded for part in (layer.origins(), *layer.stored)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def scores_of(memory: Memory) -> StoredScores:
    assert memory._focus is not None
    return memory._focus.scores


def score(memory: Memory, patch: list[int]) -> list[torch.Tensor]:
    """The scores of every stored row."""
    assert memory.spill is not None
    memory.spill.flush()
    stored = memory.sealer.trail.stored
    return scores_of(memory).of(stored, stored.rows, patch, memory.reader.ask, memory.plan.patch)
