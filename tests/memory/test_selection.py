"""Selection over stored KV: a turn begins with what a patch attends to most, whatever else is resident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from memory.policy.hybrid import Hybrid
from memory.policy.recall import Recall
from memory.store import Memory, make_policy
from tests.memory.models import KINDS, make_plan, model_pair, tokens
from tests.memory.selecting import ONE, OTHER, TEXT, read_turn, residents, same, scores_of, selecting
from tests.memory.test_recall import assert_same_numbers

pytestmark = pytest.mark.usefixtures("always_bearable")


def recent(memory: Memory) -> set[int]:
    """The tokens that no patch may exchange."""
    seen, first = memory.working_set.seen, memory.sealer.first
    return set(range(first)) | set(range(seen - memory.sealer.recent, seen))


def brute_force(memory: Memory, whole: Memory, patch: list[int]) -> list[torch.Tensor]:
    """Scores from every key, all resident in `whole`, and the queries that `memory` asks with; these are kept."""
    asked = dict[int, list[torch.Tensor]]()

    def ask(piece: Any, tap: Any) -> None:
        def both(layer: int, queries: torch.Tensor, scale: float) -> None:
            asked.setdefault(layer, []).append(queries[0] * scale)
            tap(layer, queries, scale)

        memory.reader.ask(piece, both)

    stored = memory.sealer.trail.stored
    list(scores_of(memory).update(stored, stored.rows, patch, ask, memory.plan.patch))
    found = list[torch.Tensor]()
    for index in scores_of(memory).layers:
        keys = whole.working_set.layers[index].stored[0][:, : stored.tokens]
        queries = torch.cat(asked[index], dim=1).reshape(keys.shape[0], -1, keys.shape[-1])
        found.append((queries @ keys.transpose(1, 2)).log_softmax(-1).amax(1))
    return found


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_the_tokens_that_the_patch_attends_to_most_are_resident(kind: str, tmp_path: Path) -> None:
    with selecting(tmp_path / "a", kind) as memory, selecting(tmp_path / "b", kind, capacity=512) as whole:
        for one in (memory, whole):
            read_turn(one, TEXT[:450])
        expected = brute_force(memory, whole, ONE)
        assert memory.focus(ONE) > 0
        assert scores_of(memory).passes == 3, "40 tokens in pieces of 16; nothing is asked twice"
        for scores, layer in zip(expected, memory.working_set.bounded, strict=True):
            edge = memory.sealer.edge * 64
            for head, held in zip(scores, layer.origins().tolist(), strict=True):
                chosen = [token for token in held if memory.sealer.first <= token < edge]
                left = sorted(set(range(memory.sealer.first, edge)) - set(held))
                assert recent(memory) <= set(held)
                assert head[chosen].min() >= head[left].max() - 0.02, "fp16 of a logarithm"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [450, 1100])
def test_switching_there_and_back_moves_only_the_difference(kind: str, length: int, tmp_path: Path) -> None:
    with selecting(tmp_path, kind) as memory:
        read_turn(memory, TEXT[:length])
        first, before = memory.focus(ONE), residents(memory)
        assert memory.focus(ONE) == 0
        there, between = memory.focus(OTHER), residents(memory)
        assert there <= memory.resident
        assert memory.focus(ONE) == there
        assert same(residents(memory), before)
        if memory.working_set.bounded:
            assert min(first, there) > 0
            assert not same(between, before)
            moved = [
                len(set(new) - set(old))
                for layer in range(0, len(before), 3)
                for new, old in zip(between[layer].tolist(), before[layer].tolist(), strict=True)
            ]
            assert round(sum(moved) / len(moved)) == there
        assert torch.isfinite(memory.read([1])).all()


@pytest.mark.parametrize("ram_rows", [0, 3, 40])
def test_what_comes_has_the_numbers_that_were_stored(ram_rows: int, tmp_path: Path) -> None:
    with (
        selecting(tmp_path / "a", ram_rows=ram_rows) as memory,
        selecting(tmp_path / "b", capacity=512) as whole,
    ):
        for one in (memory, whole):
            read_turn(one, TEXT[:450])
        memory.focus(ONE)
        for ours, all_of_it in zip(memory.working_set.bounded, whole.working_set.bounded, strict=True):
            origins = ours.origins().to(torch.int64)
            assert (origins.diff() > 0).all()
            for held, stored in zip(ours.stored, all_of_it.stored, strict=True):
                expected = stored.gather(1, origins[..., None].expand(-1, -1, held.shape[-1]))
                assert torch.allclose(held, expected, atol=1e-3)


def test_budgets_hold_and_protected_tokens_stay_whatever_is_chosen(tmp_path: Path) -> None:
    with selecting(tmp_path, capacity=280, mode="bounded") as memory:
        memory.protect(20)
        for end in range(300, 1300, 100):
            read_turn(memory, TEXT[:end])
            memory.focus(tokens(30, end % 3))
            for layer in memory.working_set.bounded:
                assert layer.length <= layer.capacity
                for held in layer.origins().tolist():
                    assert recent(memory) <= set(held)
            for token in TEXT[end : end + 40]:
                memory.step(token)
                assert memory.resident <= memory.plan.capacity
        assert memory.ledger.peak <= memory.plan.budget


def test_what_was_chosen_stays_while_the_turn_is_read(tmp_path: Path) -> None:
    with selecting(tmp_path) as memory:
        read_turn(memory, TEXT[:380])
        memory.focus(ONE)
        chosen = [set(held) for held in memory.working_set.bounded[0].origins().tolist()]
        memory.read(TEXT[380:480])
        for before, held in zip(chosen, memory.working_set.bounded[0].origins().tolist(), strict=True):
            old = {token for token in before if token < 380 - memory.sealer.recent - 64}
            assert len(old - set(held)) <= 64, "the tail begins at a row"
        memory.focus([])
        for held in memory.working_set.bounded[0].origins().tolist():
            assert held[4:] == list(range(480 - len(held) + 4, 480)), "without a patch the latest stay"


@pytest.mark.parametrize("policy", ["episodic", "patched_prompt"])
def test_where_nothing_is_stored_or_left_out_nothing_happens(policy: str, tmp_path: Path) -> None:
    alone = Memory(model_pair("llama")[0], make_plan("llama", 200, 32), make_policy(policy), tokens(12, 99))
    assert alone.focus(ONE) == 0
    alone.read(TEXT[:450])
    assert alone.focus(ONE) == 0
    with selecting(tmp_path, policy=policy) as memory:
        assert memory.focus(ONE) == 0
        assert memory.prepare(ONE)
        read_turn(memory, TEXT[:100])
        assert memory.focus(ONE) == 0
        assert memory.focus([]) == 0
        assert scores_of(memory).passes == 0
    with selecting(tmp_path / "exact", policy=policy, mode="exact") as memory:
        read_turn(memory, TEXT[:450])
        assert memory.focus(ONE) == 0, "every token attends to everything anyway"
        memory.step(1)
        assert memory.served == "exact"


@pytest.mark.parametrize("length", [450, 1100])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_recall_leaves_a_part_of_the_slots_to_the_episode(kind: str, length: int, tmp_path: Path) -> None:
    policy = Hybrid(still=2.0, shortlist=2.0)
    with (
        selecting(tmp_path / "a", kind, 280, policy) as memory,
        selecting(tmp_path / "b", kind, 280, Recall(still=2.0, shortlist=2.0)) as alone,
        selecting(tmp_path / "c", kind, 512) as whole,
    ):
        for one in (memory, alone, whole):
            read_turn(one, TEXT[:length])
        memory.focus(ONE)
        kept = dict(memory.sealer.trail.kept)
        assert alone.focus(ONE) == 0, "recall begins with what there is"
        for token in TEXT[1300:1315]:
            for one in (memory, alone, whole):
                one.step(token)
            for index, tokens_kept in kept.items():
                for stay, held in zip(
                    tokens_kept.tolist(), memory.working_set.layers[index].origins().tolist(), strict=True
                ):
                    assert len(stay) >= 5
                    assert len(set(held)) == len(held)
                    assert set(stay) <= set(held)
        assert memory.served == alone.served == "recall"
        assert memory.sealer.trail.recaller.told().moved > 0  # type: ignore[union-attr]
        assert not same(residents(memory)[::3], residents(alone)[::3])
        if length == 450:
            assert_same_numbers(memory, whole, 450)
        memory.seal()
        memory.resume([*memory.tokens, 1])
        memory.focus([])
        assert not any(part.numel() for part in memory.sealer.trail.kept.values())
        assert torch.isfinite(memory.step(1)).all()
