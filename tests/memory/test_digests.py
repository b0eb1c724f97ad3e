"""Digests: no key exceeds what they say it may be at most, however coarse they are; what is missed is bounded by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memory.policy.recall import Recall
from memory.scoring import Scoring
from tests.memory.models import tokens
from tests.memory.test_recall import recalling
from tests.memory.tiers import read_all

TEXT = tokens(1100, 5)


@pytest.mark.parametrize("digests", [4, 1024])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
def test_no_key_exceeds_its_ceiling(kind: str, digests: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.digest.DIGESTED", digests)
    with recalling(kind, tmp_path / "a") as memory, recalling(kind, tmp_path / "b", capacity=1400) as whole:
        read_all(memory, TEXT[:900])
        memory.step(TEXT[900])
        read_all(whole, TEXT[:900])
        recaller, rows = memory.sealer.trail.recaller, memory.sealer.edge
        assert recaller is not None
        for index, layer in enumerate(whole.working_set.layers):
            if layer.is_sliding:
                continue
            keys = layer.as_computed[0][:, : rows * 64]
            queries = torch.randn(keys.shape[0], 5, keys.shape[-1], generator=torch.Generator().manual_seed(index))
            ceiling = recaller.digests.ceiling(index, queries, rows).repeat_interleave(64 * recaller.digests.per, -1)
            assert (queries @ keys.transpose(1, 2) <= ceiling[..., : rows * 64] + 1e-4).all()


@pytest.mark.parametrize("digests", [4, 1024])
def test_what_stands_for_rows_is_the_mean_of_their_tokens(
    digests: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.digest.DIGESTED", digests)
    with recalling("llama", tmp_path / "a") as memory, recalling("llama", tmp_path / "b", capacity=512) as whole:
        read_all(memory, TEXT[:450])
        memory.step(TEXT[450])
        read_all(whole, TEXT[:450])
        recaller = memory.sealer.trail.recaller
        assert recaller is not None
        per, layer = recaller.digests.per, memory.working_set.layers[0]
        scoring = Scoring(memory.sealer._spill.codec, layer, 0, recaller.homes, recaller.keys)  # type: ignore[union-attr]
        rows = torch.arange(0, recaller.digests.rows // per * per)
        found = recaller.digests.means(scoring, rows)
        for mean, all_of_it in zip(found, whole.working_set.layers[0].stored, strict=True):
            tokens_of = all_of_it[:, : rows.numel() * 64].unflatten(1, (-1, 64 * per))
            expected = tokens_of.mean(2).repeat_interleave(per, 1)
            assert float((mean - expected).norm()) < 0.05 * float(expected.norm())


def test_what_is_missed_is_within_its_bound(tmp_path: Path) -> None:
    """With a shortlist some rows are never looked at: the bound grows by what they may hold. Without, it is exact."""
    told = []
    for name, shortlist in (("some", 1.0), ("all", 1000.0)):
        policy = Recall(still=2.0, pace=torch.inf, shortlist=shortlist)
        with recalling("llama", tmp_path / name, policy=policy) as memory:
            read_all(memory, TEXT[:1000])
            for token in TEXT[1000:1006]:
                memory.step(token)
            recalled = memory.recalled()
        assert recalled is not None
        assert recalled.missed is not None
        assert recalled.bound is not None
        told.append((recalled.missed, recalled.bound))
    (missed, bound), (everything, exact) = told
    assert missed < bound <= 1
    assert everything <= bound
    assert everything == exact
