"""What was read once is not read again; what differs is taken back; what cannot be taken back is said."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import Cancelled
from tests.memory.models import KINDS, full_logits, make_memory, make_plan, roomy_plan, tokens


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_prefix_is_reused_and_the_result_is_the_same(kind: str) -> None:
    ids = tokens(100)
    memory = make_memory(kind, roomy_plan(kind, 16))
    memory.read(ids[:70])

    resumed = memory.resume(ids)

    assert (resumed.reused, resumed.reason) == (70, None)
    assert torch.allclose(memory.read(ids[70:]), full_logits(kind, ids)[-1], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(known=st.integers(1, 90), common=st.integers(0, 90), seed=st.integers(0, 5))
def test_an_edited_turn_equals_reading_it_afresh(kind: str, known: int, common: int, seed: int) -> None:
    common = min(common, known)
    first = tokens(known, seed)
    edited = first[:common] + [(token + 1) % 97 for token in tokens(95 - common, seed + 1)]
    memory = make_memory(kind, roomy_plan(kind, 16))
    memory.read(first)

    resumed = memory.resume(edited)
    logits = memory.read(edited[resumed.reused :])

    assert memory.tokens == edited
    assert torch.allclose(logits, full_logits(kind, edited)[-1], atol=1e-4)


def test_one_token_is_always_left_to_read() -> None:
    ids = tokens(40)
    memory = make_memory("llama", roomy_plan("llama", 16))
    memory.read(ids)
    assert memory.resume(ids).reused == 39


def test_a_change_before_what_eviction_left_whole_is_read_again_and_says_why() -> None:
    ids = tokens(300)
    memory = make_memory("llama", make_plan("llama", 120, 16), "patched_prompt")
    memory.read(ids)

    resumed = memory.resume([(ids[0] + 1) % 97, *ids[1:]])

    assert resumed.reused == 0
    assert resumed.reason is not None
    assert "token 0" in resumed.reason
    assert memory.tokens == []


def test_the_last_tokens_can_be_taken_back_after_an_eviction_and_past_the_window() -> None:
    ids = tokens(1400)
    memory = make_memory("llama", make_plan("llama", 240, 32))
    memory.read(ids)
    end = memory.working_set.next_position

    resumed = memory.resume([*ids[:1390], 1, 2])

    assert resumed.reused == 1390
    assert memory.working_set.next_position == end - 10
    memory.read([1, 2])
    layer = memory.working_set.layers[0]
    assert (layer.origins()[:, -12:] == torch.arange(1380, 1392)).all()
    homes = layer.homes()[:, -2:]
    assert (homes == torch.arange(end - 10, end - 8)).all()


def test_stopping_keeps_what_was_read() -> None:
    ids = tokens(200)
    memory = make_memory("llama", roomy_plan("llama", 16))

    def stop_after_three_blocks(done: int, total: int) -> None:
        assert total == 200
        if done == 48:
            raise Cancelled

    with pytest.raises(Cancelled):
        memory.read(ids, stop_after_three_blocks)

    assert memory.tokens == ids[:48]
    assert memory.resume(ids).reused == 48
    assert torch.allclose(memory.read(ids[48:]), full_logits("llama", ids)[-1], atol=1e-4)
