"""Several conversations resident at once in one pool: each goes on as if it were alone, the sum stays in the arena."""

from __future__ import annotations

import pytest
import torch

from memory.block import CHUNK
from memory.geometry import LayerGeometry
from memory.store import Memory
from memory.tier.gpu import LayerPool
from tests.memory.models import KINDS, full_logits, make_memory, make_plan, roomy_plan, tokens

DIALOGUES = {"chat": tokens(140, 1), "agent": tokens(90, 2), "other": tokens(100, 3)}


def read_first(memory: Memory, name: str, count: int) -> tuple[int, torch.Tensor]:
    """Open `name` and read its first `count` tokens; how many were reused, and the logits after the last."""
    memory.open(name)
    ids = DIALOGUES[name][:count]
    reused = memory.resume(ids).reused
    return reused, memory.read(ids[reused:])


@pytest.mark.parametrize("kind", KINDS)
def test_three_conversations_take_turns_without_reading_twice(kind: str) -> None:
    memory = make_memory(kind, roomy_plan(kind, 32))
    for name in DIALOGUES:
        read_first(memory, name, 50)
    for count in (70, 90):
        for name in DIALOGUES:
            reused, logits = read_first(memory, name, count)
            assert reused == count - 20
            assert torch.allclose(logits, full_logits(kind, DIALOGUES[name][:count])[-1], atol=1e-4)
    assert set(memory.sets()) == set(DIALOGUES)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_set_that_waited_continues_bit_by_bit_past_the_trained_window(kind: str) -> None:
    plan = make_plan(kind, 480, 32, 16)
    alone, shared = (make_memory(kind, plan, "sinks_recent") for _ in range(2))
    text = tokens(1200, 4)
    for memory in (alone, shared):
        memory.open("chat")
        memory.read(text[:1000])
        leave_few(memory)
    shared.open("agent")
    shared.read(tokens(40, 5))
    shared.open("chat")
    assert shared.resume(text[:1010]).reused == 1000
    for token in text[1000:1010]:
        assert torch.equal(alone.step(token), shared.step(token))


def test_the_longest_waiting_set_leaves_when_the_active_one_needs_room() -> None:
    memory = make_memory("llama", make_plan("llama", 400, 32))
    for name in ("agent", "other"):
        read_first(memory, name, 60)
    memory.open("chat")
    memory.read(tokens(200, 6))
    assert list(memory.sets()) == ["agent", "other", "chat"]
    memory.read(tokens(100, 7))
    assert list(memory.sets()) == ["other", "chat"]
    assert memory.complete
    memory.read(tokens(60, 8))
    assert list(memory.sets()) == ["chat"]
    assert memory.complete
    assert read_first(memory, "agent", 60)[0] == 0


def test_a_set_that_takes_more_than_its_share_does_not_wait() -> None:
    memory = make_memory("llama", make_plan("llama", 400, 32))
    memory.open("chat")
    memory.read(tokens(300, 6))
    read_first(memory, "agent", 60)
    assert list(memory.sets()) == ["agent"]


def test_pages_are_reused_and_stay_together() -> None:
    pool = LayerPool(LayerGeometry(2, 4, None), 2 * 2 * 4 * 640, 0, torch.float32, torch.device("cpu"), shared=True)
    parts = {name: torch.randn(2, 2, count, 4) for name, count in (("a", 100), ("b", 64), ("c", 10), ("d", 129))}
    for name, part in parts.items():
        pool.put(name, part[0], part[1])
    assert pool.used == 2 + 1 + 1 + 3
    pool.drop("a")
    assert sorted(page for pages in pool.table.values() for page in pages.numbers) == list(range(pool.used))
    assert pool.front.numel() == pool.arena.numel() - pool.used * pool.page_size
    for name in ("d", "b", "c"):
        keys, values = pool.take(name)
        assert torch.equal(torch.stack((keys, values)), parts[name])
    assert pool.front.numel() == pool.arena.numel()
    assert pool.page_size == 2 * 2 * CHUNK * 4


def leave_few(memory: Memory) -> None:
    """Leave few enough entries that the set may wait."""
    for layer in memory.working_set.layers:
        last = torch.arange(max(0, layer.length - 150), layer.length)
        layer.keep(last.expand(layer.shape.kv_heads, -1))
    memory.working_set.reindex()
