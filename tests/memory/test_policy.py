"""Selection: protected entries stay, the best of the rest stay, in order; scores are those the papers define."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import TextTooLong
from memory.policy import POLICIES, LayerView, Protection, select
from memory.policy.recall import Recall
from memory.store import make_policy
from tests.memory.models import make_memory, make_plan, tokens

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


def view(entries: int = 40, queries: int | None = 6, dtype: torch.dtype = torch.float32) -> LayerView:
    generator = torch.Generator().manual_seed(entries)
    shape = (2, entries, 8)
    asked = None if queries is None else torch.randn(4, queries, 8, generator=generator).to(dtype)
    origins = torch.arange(entries, dtype=torch.int32).expand(2, -1)
    keys = torch.randn(shape, generator=generator).to(dtype)
    return LayerView(keys, origins, asked, 8**-0.5, entries, sentences=torch.arange(entries) // 7)


@given(
    scores=st.lists(st.floats(-5, 5), min_size=12, max_size=40),
    count=st.integers(8, 12),
    recent=st.integers(1, 4),
    sinks=st.integers(0, 4),
)
def test_selection_keeps_protected_then_best_in_order(scores: list[float], count: int, recent: int, sinks: int) -> None:
    values = torch.tensor([scores, scores[::-1]])
    origins = torch.arange(len(scores)).expand(2, -1)
    protected = Protection(sinks=sinks, recent=recent).mask(origins, len(scores))

    kept = select(values, protected, count)

    assert kept.shape == (2, count)
    assert (kept.diff() > 0).all()
    for head in range(2):
        chosen = set(kept[head].tolist())
        assert set(protected[head].nonzero().flatten().tolist()) <= chosen
        lowest = min((values[head, index] for index in chosen if not protected[head, index]), default=None)
        left = [values[head, index] for index in range(len(scores)) if index not in chosen]
        assert lowest is None or not left or max(left) <= lowest


def test_ties_at_the_highest_score_cannot_push_out_a_protected_entry() -> None:
    scores = torch.full((1, 30), torch.inf)
    scores[0, -5:] = -torch.inf
    protected = Protection(sinks=0, recent=5).mask(torch.arange(30)[None], 30)
    assert select(scores.nan_to_num(posinf=1e30), protected, 6)[0, -5:].tolist() == [25, 26, 27, 28, 29]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_scores_every_entry_in_fp32_without_nan(name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        scores = make_policy(name).score(view(dtype=dtype))
        assert scores.shape == (2, 40)
        assert scores.dtype == torch.float32
        assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_a_file_whose_first_line_is_its_row_in_the_docs(name: str) -> None:
    module = POLICIES[name].__module__
    assert module == f"memory.policy.{name}"
    first = (sys.modules[module].__doc__ or "").partition("\n")[0]
    assert first
    assert f"| {first} |" in PAGE.read_text(encoding="utf-8"), "run make docs"


def test_a_sentence_gets_the_attention_of_its_mean_key() -> None:
    layer = view()
    assert layer.queries is not None
    assert layer.sentences is not None
    scores = make_policy("sentence").score(layer)
    for head in range(2):
        for query in layer.queries[2 * head : 2 * head + 2].flatten(0, 1):
            alone = replace(layer, queries=query.expand(4, 1, 8))
            found = make_policy("sentence").score(alone)[head]
            means = torch.stack([layer.keys[head, layer.sentences == at].mean(0) for at in range(6)])
            expected = (means @ query * layer.scale).exp()[layer.sentences]
            assert torch.allclose(found / found[0], expected / expected[0], rtol=1e-4)
    for at in range(6):
        assert scores[:, layer.sentences == at].unique(dim=1).shape[1] == 1


def test_patched_prompt_takes_the_most_attention_any_query_of_the_group_pays() -> None:
    layer = view()
    assert layer.queries is not None
    wanted = torch.zeros(2, 40)
    for head in range(4):
        for query in layer.queries[head]:
            weights = (layer.keys[head // 2] @ query * layer.scale).softmax(-1)
            wanted[head // 2] = torch.maximum(wanted[head // 2], weights)
    assert torch.allclose(make_policy("patched_prompt").score(layer), wanted, atol=1e-6)


def test_patched_prompt_keeps_what_the_patch_looks_at() -> None:
    memory = make_memory("llama", make_plan("llama", 100, 8), "patched_prompt")
    memory.read(tokens(84))
    scores = memory.reader._scores()
    memory.protect(0)
    memory.read([1])
    keep = memory.working_set.working_set_size(reindexed=False)
    for layer, score in zip(memory.working_set.layers, scores, strict=True):
        protected = memory.reader.protection.mask(torch.arange(84).expand(2, -1), 84)
        assert torch.equal(layer.origins()[:, :keep].long(), select(score, protected, keep))


def test_sinks_recent_keeps_the_first_and_the_last() -> None:
    memory = make_memory("llama", make_plan("llama", 100, 8))
    memory.read(tokens(200))
    for row in memory.working_set.layers[0].origins():
        assert row[:4].tolist() == [0, 1, 2, 3]
        assert row[4:].tolist() == list(range(200 - len(row) + 4, 200))


def test_a_system_prompt_larger_than_the_working_set_is_refused_with_a_sentence() -> None:
    memory = make_memory("llama", make_plan("llama", 100, 8))
    memory.protect(prefix=90)
    with pytest.raises(TextTooLong, match="system prompt"):
        memory.read(tokens(200))


def test_h2o_adds_what_every_query_of_the_group_pays() -> None:
    layer = view()
    assert layer.queries is not None
    weights = (layer.queries.reshape(2, 12, 8) @ layer.keys.transpose(1, 2) * layer.scale).softmax(-1)
    assert torch.allclose(make_policy("h2o").score(layer), weights.sum(1), atol=1e-6)


def test_snapkv_lets_a_neighbour_share_the_votes_of_the_latest_queries() -> None:
    layer = view(queries=40)
    assert layer.queries is not None
    weights = (layer.queries.reshape(2, 2, 40, 8) @ layer.keys[:, None].transpose(2, 3) * layer.scale).softmax(-1)
    votes = weights[:, :, -32:].sum((1, 2))
    scores = make_policy("snapkv").score(layer)
    for entry in (0, 3, 20, 39):
        near = votes[:, max(0, entry - 3) : entry + 4]
        assert torch.allclose(scores[:, entry], near.amax(1), atol=1e-6)


def test_tova_asks_the_last_query_and_keeps_the_same_in_every_head() -> None:
    layer = view()
    assert layer.queries is not None
    last = layer.queries[:, -1].reshape(2, 2, 8)
    weights = (last @ layer.keys.transpose(1, 2) * layer.scale).softmax(-1).mean((0, 1))
    scores = make_policy("tova").score(layer)
    assert torch.allclose(scores[0], weights, atol=1e-6)
    assert torch.equal(scores[0], scores[1])


def test_keydiff_prefers_the_key_that_points_elsewhere() -> None:
    layer = view()
    keys = torch.ones_like(layer.keys) + 0.01 * layer.keys
    keys[:, 7] = -1.0
    scores = make_policy("keydiff").score(replace(layer, keys=keys))
    assert scores.argmax(1).tolist() == [7, 7]


def test_recall_lets_the_neighbours_of_what_is_read_come_along() -> None:
    layer = view()
    wide, narrow = Recall().score(layer), Recall(reach=0).score(layer)
    assert (wide >= narrow).all()
    top = int(narrow[0].argmax())
    for step in (1, 2, 3):
        for other in (top - step, top + step):
            if 0 <= other < 40:
                assert float(wide[0, other]) >= float(narrow[0, top]) * 0.3**step - 1e-6


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_chooses_when_the_working_set_is_full(name: str) -> None:
    memory = make_memory("llama", make_plan("llama", 100, 8), name)
    memory.read(tokens(300))
    assert torch.isfinite(memory.step(5)).all()
    assert memory.resident <= 100
    assert memory.working_set.layers[0].origins().max() == 300
