"""Selection: protected entries stay, the best of the rest stay, in order; scores are those the papers define."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import BudgetTooSmall
from memory.policy import POLICIES, LayerView, Protection, select
from memory.store import make_policy
from tests.memory.models import make_memory, make_plan, tokens


def view(entries: int = 40, queries: int | None = 6, dtype: torch.dtype = torch.float32) -> LayerView:
    generator = torch.Generator().manual_seed(entries)
    shape = (2, entries, 8)
    asked = None if queries is None else torch.randn(4, queries, 8, generator=generator).to(dtype)
    origins = torch.arange(entries, dtype=torch.int32).expand(2, -1)
    keys = torch.randn(shape, generator=generator).to(dtype)
    return LayerView(keys, origins, asked, 8**-0.5, entries)


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
    scores = memory.reader._patched_scores()
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
    with pytest.raises(BudgetTooSmall, match="system prompt"):
        memory.read(tokens(200))
