"""Rows of any conversation: a text that begins like another one's is not read again, and owes it nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memory.block import CHUNK
from memory.fingerprint import Fingerprint
from memory.store import Memory
from tests.memory.branches import flip, open_tier, own_rows, store, text
from tests.memory.models import tokens
from tests.memory.rows import FINGERPRINT
from tests.memory.test_sweep import assert_true
from tests.memory.tiers import read_all, stored_memory

DOCUMENT = tokens(3 * CHUNK, 7)
ONE, OTHER = [*DOCUMENT, *tokens(40, 8)], [*DOCUMENT, *tokens(40, 9)]


def read_as(memory: Memory, name: str, ids: list[int], *, share: bool) -> tuple[int, torch.Tensor]:
    """Read a text as the conversation `name`, to the end of its turn."""
    memory.open(name, share=share)
    reused, logits = read_all(memory, ids)
    memory.seal()
    assert memory.spill is not None
    memory.spill.flush()
    return reused, logits


def cold(folder: Path, ids: list[int], capacity: int = 400) -> torch.Tensor:
    with stored_memory("llama", folder, capacity, mode="exact") as memory:
        return read_as(memory, "cold", ids, share=False)[1]


@pytest.mark.parametrize(("ram_rows", "capacity"), [(0, 400), (8, 400), (0, 160)])
def test_a_shared_beginning_gives_what_a_cold_reading_gives(tmp_path: Path, ram_rows: int, capacity: int) -> None:
    expected = cold(tmp_path / "cold", OTHER, capacity)
    with stored_memory("llama", tmp_path / "kv", capacity, mode="exact", ram_rows=ram_rows) as memory:
        assert read_as(memory, "one", ONE, share=True)[0] == 0
        reused, logits = read_as(memory, "other", OTHER, share=True)
        assert reused == len(DOCUMENT)
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)
        more = [*OTHER, *tokens(100, 10)]
        assert read_as(memory, "other", more, share=True)[0] >= len(OTHER) - 1


def test_a_conversation_that_does_not_share_sees_no_other(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path) as memory:
        read_as(memory, "one", ONE, share=True)
        assert read_as(memory, "other", OTHER, share=False)[0] == 0
        assert read_as(memory, "third", ONE, share=True)[0] == len(ONE) - 1


def test_the_lender_can_be_forgotten(tmp_path: Path) -> None:
    expected = cold(tmp_path / "cold", [*OTHER, 5])
    with stored_memory("llama", tmp_path / "kv") as memory:
        read_as(memory, "one", ONE, share=True)
        read_as(memory, "other", OTHER, share=True)
        memory.forget("one")
        memory.clear()
        reused, logits = read_as(memory, "other", [*OTHER, 5], share=True)
        assert reused == len(OTHER)
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)
    with stored_memory("llama", tmp_path / "kv") as memory:
        assert read_as(memory, "one", ONE, share=False)[0] == 0, "nothing is left of it"
        assert read_as(memory, "other", OTHER, share=False)[0] == len(OTHER) - 1


def test_rows_are_lent_under_the_same_fingerprint_only_and_stored_once(tmp_path: Path) -> None:
    tier, ids = open_tier(tmp_path), text(1, 5)
    store(tier, "one", ids)
    found = tier.find("other", text(2, 7, ids[: 4 * CHUNK]), share=True)
    assert (found.rows, found.branch and found.branch.conversation) == (4, "other")
    assert own_rows(tier, "other") == 0
    assert tier.find("third", ids).rows == 0
    assert_true(tier.folder)
    tier.close()
    changed = Fingerprint.of(dict(FINGERPRINT.to_dict()) | {"dtype": "another"})
    tier = open_tier(tmp_path, fingerprint=changed)
    assert tier.find("fourth", ids, share=True).rows == 0
    tier.close()


def test_its_own_branch_goes_before_another_s(tmp_path: Path) -> None:
    tier, ids = open_tier(tmp_path), text(1, 4)
    for name in ("one", "two"):
        store(tier, name, ids)
    found = tier.find("one", ids, share=True)
    assert found.branch is not None
    assert found.branch.conversation == "one"
    assert len(tier.folder.index.branches("one")) == 1
    tier.close()


def test_damage_in_the_lender_s_rows_ends_what_is_lent(tmp_path: Path) -> None:
    tier, ids = open_tier(tmp_path), text(1, 4)
    branch = store(tier, "one", ids)
    path = branch.extents[-1].path
    tier.close()
    flip(path, path.stat().st_size - tier.layout.stride + 8)
    tier = open_tier(tmp_path)
    found = tier.find("other", [*ids, 1], share=True)
    assert found.rows == 3
    tier.close()
