"""Exact mode attends to every stored token, wherever it lies: the result is that of full attention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.exact import groups_of
from tests.memory.models import KINDS, full_logits, tokens
from tests.memory.tiers import read_all, stored_memory

TEXT = tokens(480, 3)


@pytest.mark.parametrize("ram_rows", [0, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_steps_equal_full_attention_for_any_split_over_the_tiers(
    kind: str, ram_rows: int, tmp_path: Path
) -> None:
    expected = full_logits(kind, TEXT)
    with stored_memory(kind, tmp_path, capacity=200, mode="exact", ram_rows=ram_rows) as memory:
        memory.protect(4)
        memory.resume(TEXT)
        assert torch.allclose(memory.read(TEXT[:470]), expected[469], atol=1e-3)
        for at in range(470, 480):
            assert torch.allclose(memory.step(TEXT[at]), expected[at], atol=1e-3)
        assert memory.exact
        if any(not layer.is_sliding for layer in memory.working_set.layers):
            assert memory.resident < 200
            counters = memory.spill.counters if memory.spill else {}
            assert counters["rows_streamed"] > 0
            assert (counters["rows_beside"] > 0) == (ram_rows > 0)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_int8_stays_close(kind: str, tmp_path: Path) -> None:
    with stored_memory(kind, tmp_path, capacity=200, mode="exact", codec="int8") as memory:
        memory.resume(TEXT)
        logits = memory.read(TEXT)
    expected = full_logits(kind, TEXT)[-1]
    divergence = torch.nn.functional.kl_div(
        logits.log_softmax(-1), expected.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert divergence < 0.002


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_into_turns_and_any_capacity_gives_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    capacity = data.draw(st.integers(150, 400))
    cuts = sorted(data.draw(st.sets(st.integers(1, 449), max_size=4)))
    expected = full_logits("qwen2", TEXT)
    folder = tmp_path_factory.mktemp("kv")
    with stored_memory(
        "qwen2", folder, capacity=capacity, mode="exact", ram_rows=data.draw(st.integers(0, 4))
    ) as memory:
        for cut in [*cuts, 450]:
            assert torch.allclose(read_all(memory, TEXT[:cut])[1], expected[cut - 1], atol=1e-3)
            memory.seal()


def test_bounded_mode_says_that_it_was_not_exact(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, capacity=200, mode="bounded") as memory:
        read_all(memory, TEXT)
        assert not memory.exact
        assert memory.resident < 200


def test_past_the_trained_window_the_working_set_alone_goes_on(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, capacity=200, mode="exact") as memory:
        for piece in range(8):
            read_all(memory, memory.tokens + tokens(120, seed=piece))
        assert memory.working_set.reindexed
        assert memory.spill is not None
        memory.spill.flush()
        assert memory.stored == 960 // 64 * 64
        assert not memory.exact


@given(start=st.integers(0, 40), count=st.integers(1, 60))
def test_groups_cover_the_rows_and_are_cut_at_the_same_places(start: int, count: int) -> None:
    groups = groups_of(range(start, start + count))
    assert [row for group in groups for row in group] == list(range(start, start + count))
    assert all(len(group) <= 8 for group in groups)
    assert all(group.start % 8 == 0 for group in groups[1:])
