"""A conversation comes back from disk: what was read is not read again, and it goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memory.errors import KvLocked
from tests.memory.models import KINDS, full_logits, tokens
from tests.memory.tiers import make_spill, read_all, stored_memory

TEXT = tokens(1400, 5)


@pytest.mark.parametrize("mode", ["exact", "bounded"])
@pytest.mark.parametrize("length", [30, 64, 200, 450, 1100])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_conversation_goes_on_bit_by_bit(kind: str, length: int, mode: str, tmp_path: Path) -> None:
    text = TEXT[:length]
    with stored_memory(kind, tmp_path / "a", capacity=240, mode=mode) as memory:
        read_all(memory, text)
        memory.seal()
        expected = [memory.read(TEXT[length : length + 20]), *(memory.step(token) for token in TEXT[1300:1310])]
    with stored_memory(kind, tmp_path / "b", capacity=240, mode=mode) as memory:
        read_all(memory, text)
        memory.seal()
    with stored_memory(kind, tmp_path / "b", capacity=240, mode=mode) as memory:
        resumed = memory.resume(TEXT[: length + 20])
        assert (resumed.reused, resumed.source) == (length, "disk")
        found = [memory.read(TEXT[length : length + 20]), *(memory.step(token) for token in TEXT[1300:1310])]
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_larger_budget_makes_everything_resident_again(kind: str, tmp_path: Path) -> None:
    with stored_memory(kind, tmp_path, capacity=200, mode="exact") as memory:
        read_all(memory, TEXT[:450])
        memory.seal()
    with stored_memory(kind, tmp_path, capacity=512) as memory:
        reused, logits = read_all(memory, TEXT[:460])
        assert reused == 450
        assert memory.complete
        assert torch.allclose(logits, full_logits(kind, TEXT[:460])[-1], atol=1e-3)


@pytest.mark.parametrize("length", [450, 1100])
def test_a_smaller_budget_still_reads_nothing_twice(length: int, tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, capacity=400) as memory:
        read_all(memory, TEXT[:length])
        memory.seal()
    with stored_memory("llama", tmp_path, capacity=200) as memory:
        reused, logits = read_all(memory, TEXT[: length + 10])
        assert reused == length
        assert memory.resident <= 200
        assert torch.isfinite(logits).all()


def test_another_end_reuses_the_beginning_and_names_the_token(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path) as memory:
        read_all(memory, TEXT[:300])
        memory.seal()
    other = [*TEXT[:200], (TEXT[200] + 1) % 97, *TEXT[300:350]]
    with stored_memory("llama", tmp_path) as memory:
        resumed = memory.resume(other)
        assert resumed.reused == 200
        assert resumed.reason is not None
        assert "token 200" in resumed.reason
        assert torch.allclose(memory.read(other[200:]), full_logits("llama", other)[-1], atol=1e-4)
        memory.seal()
    for text in (TEXT[:310], [*other, 5]):  # both branches are there
        with stored_memory("llama", tmp_path) as memory:
            assert memory.resume(text).reused >= len(text) - 10


def test_of_an_open_chunk_the_beginning_is_reused(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path) as memory:
        read_all(memory, TEXT[:150])
        memory.seal()
    with stored_memory("llama", tmp_path) as memory:
        other = [*TEXT[:140], (TEXT[140] + 1) % 97, *TEXT[150:160]]
        resumed = memory.resume(other)
        assert resumed.reused == 140
        assert resumed.reason is not None
        assert "token 140" in resumed.reason
        assert torch.allclose(memory.read(other[140:]), full_logits("llama", other)[-1], atol=1e-4)


def test_without_its_last_turn_a_conversation_takes_back_only_that(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path) as memory:
        read_all(memory, TEXT[:300])
        resumed = memory.resume([*TEXT[:250], 3, 4])
        assert (resumed.reused, resumed.source) == (250, "resident")
        memory.read([3, 4, *TEXT[500:560]])
        memory.seal()
    with stored_memory("llama", tmp_path) as memory:
        text = [*TEXT[:250], 3, 4, *TEXT[500:560], 7]
        reused, logits = read_all(memory, text)
        assert reused == 312
        assert torch.allclose(logits, full_logits("llama", text)[-1], atol=1e-4)


@pytest.mark.parametrize(
    "field", ["weights", "config", "rope", "dtype", "attention", "layout", "template", "torch", "transformers"]
)
def test_any_other_fingerprint_is_a_miss_that_names_the_field(field: str, tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, weights="1", template="1") as memory:
        read_all(memory, TEXT[:100])
        memory.seal()
    with stored_memory("llama", tmp_path, **{"weights": "1", "template": "1", field: "other"}) as memory:
        resumed = memory.resume(TEXT[:110])
        assert resumed.reused == 0
        assert resumed.reason == f"what is stored was made with another {field}"


def test_two_processes_cannot_use_one_folder(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path), pytest.raises(KvLocked, match="Another process"):
        make_spill("llama", tmp_path)


def test_conversations_share_nothing(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path) as memory:
        read_all(memory, TEXT[:200])
        memory.seal()
        memory.open("other")
        assert memory.resume(TEXT[:200]).reused == 0


def test_what_was_dropped_from_the_pool_comes_back_from_disk(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, capacity=400) as memory:
        for name, seed in (("one", 1), ("two", 2), ("three", 3)):
            memory.open(name)
            read_all(memory, tokens(300, seed))
            memory.seal()
        for name, seed in (("one", 1), ("two", 2)):
            memory.open(name)
            resumed = memory.resume([*tokens(300, seed), 1])
            assert (resumed.reused, resumed.source) == (300, "disk")


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, ram_rows=8) as memory:
        read_all(memory, TEXT[:200])
        memory.seal()
        memory.forget("chat")
        assert memory.resume(TEXT[:200]).reused == 0
        assert not [path for path in tmp_path.rglob("*") if path.suffix in (".kv", ".tail")]
