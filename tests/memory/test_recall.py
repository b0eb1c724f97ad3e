"""Recall: what the current queries attend to most is resident when they attend, with the numbers that were stored."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from memory.policy.recall import Recall
from memory.policy.sentence import Sentence
from memory.store import Memory
from tests.memory.models import KINDS, full_logits, make_plan, model_pair, tokens
from tests.memory.tiers import make_spill, read_all

TEXT = tokens(1400, 5)


pytestmark = pytest.mark.usefixtures("always_bearable")


@contextmanager
def recalling(
    kind: str,
    folder: Path,
    capacity: int = 200,
    mode: Any = "auto",
    policy: Recall | None = None,
    block: int = 32,
    **spill: Any,
) -> Iterator[Memory]:
    """A memory that recalls for every token, over all stored keys, unless `policy` says otherwise."""
    tiers = make_spill(kind, folder, **spill)
    chosen = policy or Recall(still=2.0, pace=torch.inf, shortlist=1000.0, reach=0)
    try:
        memory = Memory(model_pair(kind)[0], make_plan(kind, capacity, block), chosen, spill=tiers, mode=mode)
        memory.open("chat")
        yield memory
    finally:
        tiers.close()


def resident(memory: Memory, layer: int) -> list[set[int]]:
    return [set(head) for head in memory.working_set.layers[layer].origins().tolist()]


def assert_same_numbers(memory: Memory, whole: Memory, read: int) -> None:
    """Each of the first `read` tokens that is resident has the keys and values that it has in `whole`."""
    for ours, all_of_it in zip(memory.working_set.bounded, whole.working_set.bounded, strict=True):
        origins = ours.origins().to(torch.int64)
        assert all(len(set(head)) == len(head) for head in origins.tolist())
        for held, stored in zip(ours.stored, all_of_it.stored, strict=True):
            expected = stored.gather(1, origins[..., None].expand(-1, -1, held.shape[-1]))
            assert torch.allclose(held[origins < read], expected[origins < read], atol=1e-3)


def watch(memory: Memory, see: Callable[[int, torch.Tensor], None]) -> None:
    """Call `see` with the layer and its queries whenever recall is about to look at them."""

    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def look(self, layer: int, query: torch.Tensor, scale: float) -> int | None:
            see(layer, query)
            return self.inner.look(layer, query, scale)  # type: ignore[no-any-return]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    begin = memory.sealer.begin
    memory.sealer.begin = lambda count: Spy(begin(count))  # type: ignore[method-assign, assignment, return-value]


@pytest.mark.parametrize("ram_rows", [0, 3, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_holds_the_numbers_of_its_token(kind: str, ram_rows: int, tmp_path: Path) -> None:
    with (
        recalling(kind, tmp_path / "own", ram_rows=ram_rows) as memory,
        recalling(kind, tmp_path / "whole", capacity=512) as whole,
    ):
        for one in (memory, whole):
            read_all(one, TEXT[:450])
            for token in TEXT[450:460]:
                one.step(token)
        if any(layer.window is None for layer in memory.geometry.layers):
            assert memory.served == "recall"
        assert_same_numbers(memory, whole, 450)


def test_the_tokens_with_the_most_attention_are_resident(tmp_path: Path) -> None:
    """Against the attention of the same queries over all keys, computed here."""
    asked = dict[int, torch.Tensor]()
    with recalling("llama", tmp_path / "own") as memory:
        read_all(memory, TEXT[:450])

        watch(memory, lambda layer, query: asked.update({layer: query.clone()}))
        memory.step(TEXT[450])
        with recalling("llama", tmp_path / "whole", capacity=512) as whole:
            read_all(whole, TEXT[:450])
            whole.step(TEXT[450])
            for layer in range(3):
                keys = whole.working_set.layers[layer].stored[0]
                query = asked[layer][0].reshape(2, 2, 8)
                weights = (query @ keys.transpose(1, 2) * 8**-0.5).softmax(-1).sum(1)
                edge = memory.sealer.edge * 64
                for head, held in enumerate(resident(memory, layer)):
                    before = weights[head, :edge]
                    slots = [token for token in held if token < edge]
                    best = set(before.topk(len(slots)).indices.tolist()) | set(range(memory.sealer.first))
                    lost = sum(float(before[token]) for token in best - held)
                    assert lost < 0.02 * float(before.sum())


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_recall_comes_closer_to_full_attention_than_the_latest_tokens(kind: str, tmp_path: Path) -> None:
    expected = full_logits(kind, TEXT[:480]).log_softmax(-1)[449:480]
    distance = dict[str, float]()
    for name, policy in (
        ("recall", Recall(still=2.0, pace=torch.inf, shortlist=1000.0, reach=0)),
        ("never", Recall(still=-2.0, every=10**9)),
    ):
        with recalling(kind, tmp_path / name, policy=policy) as memory:
            _, logits = read_all(memory, TEXT[:450])
            found = [logits]
            for token in TEXT[450:480]:
                found.append(memory.step(token))
            got = torch.stack(found).log_softmax(-1)
            distance[name] = float((expected.exp() * (expected - got)).sum(-1).mean())
    assert distance["recall"] < 0.75 * distance["never"]


@pytest.mark.parametrize("length", [450, 1100])
@pytest.mark.parametrize("mode", ["auto", "bounded"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_resumed_conversation_recalls_the_same(kind: str, mode: str, length: int, tmp_path: Path) -> None:
    policy = Recall(still=0.8, pace=torch.inf)
    with recalling(kind, tmp_path / "a", mode=mode, policy=policy) as memory:
        read_all(memory, TEXT[:length])
        memory.step(5)
        memory.seal()
        follow = [*TEXT[:length], 5, *TEXT[1300:1320]]
        memory.resume(follow)
        expected = [memory.read(follow[length + 1 :]), *(memory.step(token) for token in TEXT[1320:1330])]
    with recalling(kind, tmp_path / "b", mode=mode, policy=policy) as memory:
        read_all(memory, TEXT[:length])
        memory.step(5)
        memory.seal()
    with recalling(kind, tmp_path / "b", mode=mode, policy=policy) as memory:
        assert memory.resume(follow).reused == length + 1
        found = [memory.read(follow[length + 1 :]), *(memory.step(token) for token in TEXT[1320:1330])]
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_where_choosing_takes_long_the_layers_take_turns(tmp_path: Path) -> None:
    with recalling("llama", tmp_path, policy=Recall(still=2.0)) as memory:
        read_all(memory, TEXT[:450])
        memory.step(TEXT[450])
        recaller = memory.sealer.trail.recaller
        assert recaller is not None
        before, layers = recaller.choices, len(memory.working_set.layers)
        pace = recaller.stands(memory.sealer.edge)
        for token in TEXT[451 : 451 + 2 * pace]:
            memory.step(token)
        assert pace > 1  # scoring 450 tokens takes longer than reading such a small model's weights
        assert recaller.choices - before == 2 * layers


def test_sentences_are_chosen_whole_and_when_one_has_ended(tmp_path: Path) -> None:
    """Token 9 ends a sentence: at the next token the layers choose, and what they choose are runs of tokens."""
    text = [token if at % 12 else 9 for at, token in enumerate(t if t != 9 else 8 for t in TEXT)]
    tiers = make_spill("llama", tmp_path)
    try:
        plan = make_plan("llama", 200, 32)
        memory = Memory(model_pair("llama")[0], plan, Sentence(), spill=tiers, ends=frozenset({9}))
        memory.open("chat")
        read_all(memory, text[:450])
        memory.step(text[450])
        recaller, chose = memory.sealer.trail.recaller, list[int]()
        assert recaller is not None
        for at in range(451, 482):
            before = recaller.choices
            memory.step(text[at])
            if recaller.choices > before:
                chose.append(at)
        assert [at for at in chose if at > 452] == [at for at in range(453, 482) if text[at - 1] == 9]
        first, edge = memory.sealer.first, memory.sealer.edge * 64
        for layer in range(3):
            for held in resident(memory, layer):
                sentences = {(at - 1) // 12 for at in held if first <= at < edge}
                missing = [at for one in sentences for at in range(12 * one + 1, 12 * one + 13) if at not in held]
                cut = {(at - 1) // 12 for at in missing if first <= at < edge}
                assert len(cut) <= 2 < len(sentences)  # the last one chosen, and the one at the edge
    finally:
        tiers.close()


@pytest.mark.parametrize("kind", KINDS)
def test_past_the_window_keys_stand_in_the_order_of_the_conversation(kind: str, tmp_path: Path) -> None:
    with recalling(kind, tmp_path) as memory:
        read_all(memory, TEXT[:1100])
        for token in TEXT[1100:1120]:
            assert torch.isfinite(memory.step(token)).all()
        assert memory.working_set.reindexed
        for layer in memory.working_set.bounded:
            for head in range(layer.shape.kv_heads):
                origins = layer.origins()[head].to(torch.int64)
                places = _places(layer, head)
                ordered = places[origins.argsort()]
                assert (ordered.diff() >= -1e-3).all()
                assert len(set(places.tolist())) > 0.8 * layer.length
                assert memory.working_set.next_position <= memory.geometry.window + 1


def test_past_the_window_tokens_are_chosen_by_what_they_get_where_they_will_stand(tmp_path: Path) -> None:
    """Against the attention of the same queries over all keys, those of a row rotated to stand where it begins."""
    weights = dict[int, torch.Tensor]()
    with recalling("llama", tmp_path, capacity=400, block=64) as memory:
        read_all(memory, TEXT[:1100])
        spill, stored = memory.sealer._spill, memory.sealer.trail.stored
        assert spill is not None

        def see(index: int, query: torch.Tensor) -> None:
            layer, rows = memory.working_set.layers[index], memory.sealer.edge
            sections, at = spill.sections(stored, index, range(rows))
            keys = torch.empty(2, rows, 64, 8)
            spill.codec.keys(index, sections[at], keys)
            assert stored.branch is not None
            homes = torch.tensor([place for header in stored.branch.headers[:rows] for place in header.positions])
            origins = torch.arange(64 * rows)
            placed = []
            for head in range(2):
                begins = layer.position_of(torch.full_like(origins, head), origins // 64 * 64)
                placed.append(layer.rope.rotate(keys[head].flatten(0, 1), begins + origins % 64 - homes))
            logits = query[0].reshape(2, 2, 8) @ torch.stack(placed).transpose(1, 2) * 8**-0.5
            weights[index] = logits.softmax(-1).sum(1)

        watch(memory, see)
        memory.step(TEXT[1100])
        assert memory.working_set.reindexed
        first, edge = memory.sealer.first, memory.sealer.edge * 64
        for index, found in weights.items():
            for head, held in enumerate(resident(memory, index)):
                chosen = [token for token in held if first <= token < edge]
                best = found[head, first:edge].topk(len(chosen)).values.sum()
                assert found[head][chosen].sum() > 0.99 * best


def _places(layer: Any, head: int) -> torch.Tensor:
    """The positions at which keys stand [entries]: those at which rotating them from home gives what is in place."""
    entries = layer.length
    source, target = layer._homes[0, head, :entries], layer._keys[0, head, :entries]
    shifts = torch.arange(600) - layer.homes()[head, :entries, None]
    rotated = layer.rope.rotate(source.repeat_interleave(600, 0), shifts.flatten()).view(entries, 600, -1)
    return (rotated - target[:, None]).norm(dim=-1).argmin(1).float()


@pytest.mark.parametrize(("length", "moves"), [(450, False), (1100, True)])
def test_once_positions_have_moved_nothing_stands_in_for_what_was_left(
    length: int, moves: bool, tmp_path: Path
) -> None:
    """The layers choose once. Past the window, what was weighed then was weighed where keys stood then."""
    with recalling("llama", tmp_path, policy=Recall(still=-2.0, every=10**9, pace=torch.inf, reach=0)) as memory:
        read_all(memory, TEXT[:length])
        begin, found = memory.sealer.begin, list[tuple[int, bool]]()

        class Spy:
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def rest(self, index: int, query: torch.Tensor, scale: float) -> Any:
                rest, layer = self.inner.rest(index, query, scale), memory.working_set.layers[index]
                if index == 0:
                    found.append((layer.seen - layer.length, rest is not None))
                return rest

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        memory.sealer.begin = lambda count: Spy(begin(count))  # type: ignore[method-assign, assignment, return-value]
        for token in TEXT[length : length + 60]:
            memory.step(token)
    assert found[0][1]
    assert len({left for left, _ in found}) > 1, "entries left"
    assert [stands for _, stands in found] == [not moves or left == found[0][0] for left, _ in found]


def test_taking_back_tokens_takes_back_what_recall_knows_of_them(tmp_path: Path) -> None:
    other = [*TEXT[:400], *TEXT[900:1000]]
    with recalling("llama", tmp_path / "own") as memory, recalling("llama", tmp_path / "whole", capacity=600) as whole:
        read_all(memory, TEXT[:450])
        memory.step(1)
        reused, _ = read_all(memory, other)
        assert reused >= 384
        read_all(whole, other)
        for one in (memory, whole):
            one.step(2)
        assert memory.served == "recall"
        assert_same_numbers(memory, whole, 500)


def test_it_tells_what_was_recalled_and_what_was_missed(tmp_path: Path) -> None:
    with recalling("llama", tmp_path) as memory:
        read_all(memory, TEXT[:450])
        assert memory.recalled() is None
        for token in TEXT[450:460]:
            memory.step(token)
        told = memory.recalled()
    assert told is not None
    assert told.steps == 10
    assert told.missed is not None
    assert 0 <= told.missed < 1
    assert 0 < sum(span.mass for span in told.spans) <= 1
    assert all(span.last - span.first == 64 and span.first % 64 == 0 for span in told.spans)


def test_without_tiers_the_latest_tokens_stay() -> None:
    memory = Memory(model_pair("llama")[0], make_plan("llama", 200, 32), Recall())
    memory.read(TEXT[:450])
    assert torch.isfinite(memory.step(5)).all()
    assert memory.served == "bounded"
    assert 449 in resident(memory, 0)[0]


def test_budgets_hold_whatever_is_recalled(tmp_path: Path) -> None:
    with recalling("llama", tmp_path, policy=Recall(still=2.0, pace=torch.inf)) as memory:
        plan = memory.plan
        read_all(memory, TEXT[:1300])
        for token in TEXT[1300:1400]:
            memory.step(token)
            assert all(layer.length <= layer.capacity for layer in memory.working_set.layers)
            assert memory.resident <= plan.capacity
        assert memory.ledger.peak <= plan.budget


def test_digests_grow_coarser_and_never_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for four digests, sixteen rows are told apart by fours, and recall still finds the numbers."""
    monkeypatch.setattr("memory.digest.DIGESTED", 4)
    policy = Recall(still=2.0, pace=torch.inf, shortlist=1.0)
    with recalling("llama", tmp_path, policy=policy) as memory:
        read_all(memory, TEXT[:1100])
        for token in TEXT[1100:1105]:
            assert torch.isfinite(memory.step(token)).all()
        recaller = memory.sealer.trail.recaller
        assert recaller is not None
        assert recaller.digests.per == 4
        assert memory.served == "recall"


def test_where_the_choice_misses_much_the_layer_attends_to_everything(tmp_path: Path) -> None:
    expected = full_logits("llama", TEXT[:460])[450:460]
    with recalling("llama", tmp_path, policy=Recall(still=2.0, pace=torch.inf, fallback=0.0)) as memory:
        read_all(memory, TEXT[:450])
        found = torch.stack([memory.step(token) for token in TEXT[450:460]])
        told = memory.recalled()
    assert told is not None
    assert told.exact_steps == told.steps == 10
    assert torch.allclose(found, expected, atol=1e-3)


def test_after_a_restart_all_but_the_recent_tokens_may_be_exchanged(tmp_path: Path) -> None:
    """With a budget that grew smaller, the latest tokens come back; recall does not leave them in the others' way."""
    with recalling("llama", tmp_path, capacity=400) as memory:
        read_all(memory, TEXT[:450])
        memory.seal()
    with recalling("llama", tmp_path, capacity=200) as memory:
        read_all(memory, TEXT[:460])
        before = resident(memory, 0)[0]
        for token in TEXT[1000:1045]:
            memory.step(token)
        gone = before - resident(memory, 0)[0]
        assert memory.served == "recall"
        assert max(gone) > 460 - 100
        assert_same_numbers(memory, _read_whole(tmp_path / "whole", [*TEXT[:460], *TEXT[1000:1045]]), 460)


def _read_whole(folder: Path, ids: list[int]) -> Memory:
    with recalling("llama", folder, capacity=700) as memory:
        read_all(memory, ids)
    return memory


@pytest.mark.skipif(sys.platform != "linux", reason="the system takes no such hints")
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_what_the_next_layer_looks_at_is_on_its_way_from_disk(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the first layer that chooses find their reads announced while the layer before them was busy."""
    read, announced = list[int](), set[int]()
    with recalling(kind, tmp_path / "own", ram_rows=0) as memory:
        read_all(memory, TEXT[:450])
        memory.step(TEXT[450])
        preadv, advise = os.preadv, os.posix_fadvise

        def reading(descriptor: int, into: Any, offset: int) -> int:
            read.append(offset if offset not in announced else -1)
            return preadv(descriptor, into, offset)

        def announcing(descriptor: int, offset: int, size: int, advice: int) -> None:
            announced.add(offset)
            advise(descriptor, offset, size, advice)

        monkeypatch.setattr(os, "preadv", reading)
        monkeypatch.setattr(os, "posix_fadvise", announcing)
        memory.step(TEXT[451])

    layers = sum(layer.window is None for layer in memory.geometry.layers)
    surprised = [offset for offset in read if offset >= 0]
    assert len(surprised) == len(read) / layers
