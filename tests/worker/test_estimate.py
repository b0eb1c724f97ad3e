"""What `models show` and `mem --plan` expect of a model agrees with what its loader will plan."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assistant.catalog import load_catalog
from assistant.fit import Fit, fits
from assistant.orders import KvSpec
from assistant.places import find_places
from assistant.settings import Settings
from assistant.worker.tiers import expected_staging
from memory.aside import choosing_bytes
from memory.budget import GIB, MIB, PROCESS, Plan, plan
from memory.errors import BudgetTooSmall
from memory.geometry import Geometry
from memory.policy import POLICIES


@pytest.fixture
def shape(home: Path) -> Geometry:
    shape = load_catalog(find_places()).find("smollm2-135m").shape(find_places())
    assert shape is not None
    return shape


def planned(shape: Geometry, fit: Fit, budget: int, codec: str = "int8") -> Plan:
    """As the loader plans it on a CPU, before the weights are there."""
    policy = POLICIES[Settings.model_fields["policy"].default]
    kv = KvSpec(folder="kv", codec=codec, ram=None, disk=GIB)
    staging = expected_staging(shape, kv, torch.float32) + choosing_bytes(shape, policy.queries, policy.base)
    return plan(shape, budget, fit.weights, 4, 256, staging=staging, process=PROCESS)


@pytest.mark.parametrize("codec", ["int8", "int4", "lossless"])
def test_the_tokens_that_fit_are_those_of_the_loader(shape: Geometry, codec: str) -> None:
    for fit in fits(shape, 700 * MIB, 4, 256):
        if fit.here:
            assert fit.kv_tokens == pytest.approx(planned(shape, fit, 700 * MIB, codec).capacity, rel=0.03)


def test_the_smallest_budget_is_that_of_the_refusal(shape: Geometry) -> None:
    for fit in fits(shape, 64 * MIB, 4, 256):
        if fit.here:
            with pytest.raises(BudgetTooSmall) as refused:
                planned(shape, fit, 64 * MIB)
            assert fit.smallest_budget == pytest.approx(refused.value.smallest, abs=3 * MIB)


def test_the_embedding_model_takes_its_part_where_there_is_room_for_it(shape: Geometry) -> None:
    def fp32(budget: int, encoder: int) -> Fit:
        return fits(shape, budget * MIB, 4, 256, encoder=encoder)[0]

    assert fp32(1100, 135 * MIB).process == PROCESS + 135 * MIB
    assert fp32(1100, 135 * MIB).kv_tokens < fp32(1100, 0).kv_tokens
    assert fp32(750, 135 * MIB) == fp32(750, 0), "a budget of which it would leave too little is used without it"


def test_where_nothing_is_stored_nothing_is_set_aside_for_it(shape: Geometry) -> None:
    stored, alone = (fits(shape, 700 * MIB, 4, 256, stores=stores)[0] for stores in (True, False))
    assert stored.staging - alone.staging > 50 * MIB
    assert alone.kv_tokens > stored.kv_tokens
