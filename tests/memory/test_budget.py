"""The plan never passes the budget, its refusals name a budget that works, and the ledger refuses before allocating."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.tensor_peak import TensorPeak
from memory.budget import GIB, MIB, PROCESS, Ledger, default_budget, format_size, parse_size, plan
from memory.errors import BudgetExceeded, BudgetTooSmall
from memory.geometry import Geometry, LayerGeometry
from memory.store import Memory, make_policy
from tests.memory.models import CONFIGS, KINDS, model_pair, tokens

SMOLLM2 = Geometry((LayerGeometry(3, 64, None),) * 30, 9, 576, 1536, 49152, 8192, tied=True)


@given(
    budget=st.integers(1, 6 * GIB),
    weights=st.integers(0, 4 * GIB),
    itemsize=st.sampled_from([2, 4]),
    block=st.integers(1, 4096),
    process=st.sampled_from([0, PROCESS]),
)
def test_a_plan_is_within_its_budget_or_refused_with_one_that_works(
    budget: int, weights: int, itemsize: int, block: int, process: int
) -> None:
    try:
        divided = plan(SMOLLM2, budget, weights, itemsize, block, process=process)
    except BudgetTooSmall as refused:
        assert refused.smallest > budget
        assert plan(SMOLLM2, refused.smallest, weights, itemsize, block, process=process).total <= refused.smallest
        assert "smallest budget that works" in str(refused)
        return
    assert weights + process < divided.total <= budget
    assert divided.capacity <= SMOLLM2.window
    assert 0 < divided.block <= block
    assert divided.working_set > 0


@given(small=st.integers(600 * MIB, 4 * GIB), more=st.integers(0, GIB))
def test_more_budget_never_holds_fewer_tokens(small: int, more: int) -> None:
    weights = 513 * MIB
    assert plan(SMOLLM2, small + more, weights, 4, 256).capacity >= plan(SMOLLM2, small, weights, 4, 256).capacity


@pytest.mark.parametrize("kind", KINDS)
def test_the_working_set_allocates_no_more_than_planned(kind: str) -> None:
    model = model_pair(kind)[0]
    geometry = Geometry.from_config(CONFIGS[kind].to_dict())
    for budget in (2 * MIB, 8 * MIB):
        divided = plan(geometry, budget, 0, 4, 64)
        memory = Memory(model, divided, make_policy("patched_prompt"), tokens(12))
        memory.read(tokens(1200))
        layers = memory.working_set.layers
        positions = sum(layer.origins().nbytes + layer.homes().nbytes for layer in layers)
        assert sum(layer.pool.arena.nbytes for layer in layers) + positions <= divided.kv
        assert memory.ledger.peak <= budget


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [2 * MIB, 6 * MIB])
def test_the_peak_of_all_tensors_stays_within_the_plan_at_every_step(kind: str, budget: int) -> None:
    """Every storage any operation makes is counted: KV, staging and activations; far past the trained window."""
    model = model_pair(kind)[0]
    divided = plan(Geometry.from_config(CONFIGS[kind].to_dict()), budget, 0, 4, 64)
    with TensorPeak() as gauge:
        gauge.ignore([*model.parameters(), *model.buffers()])
        memory = Memory(model, divided, make_policy("patched_prompt"), tokens(64))
        memory.read(tokens(1500))
        for token in tokens(100):
            memory.step(token)
    arenas = sum(layer.pool.arena.nbytes for layer in memory.working_set.layers)
    assert arenas < gauge.peak <= divided.kv + divided.staging + divided.activations <= budget


def test_the_ledger_refuses_what_would_pass_the_budget_and_records_nothing() -> None:
    ledger = Ledger(100)
    ledger.reserve("weights", 60)
    with pytest.raises(BudgetExceeded, match="kv needs 41 B"):
        ledger.reserve("kv", 41)
    assert (ledger.total, ledger.peak) == (60, 60)
    with ledger.transient("activations", 40):
        assert ledger.total == 100
    assert (ledger.total, ledger.peak) == (60, 100)
    ledger.release("weights")
    assert ledger.total == 0


def test_a_working_set_asks_before_it_allocates() -> None:
    divided = plan(Geometry.from_config(CONFIGS["llama"].to_dict()), 8 * MIB, 0, 4, 64)
    with pytest.raises(BudgetExceeded):
        Memory(model_pair("llama")[0], divided, make_policy("sinks_recent"), ledger=Ledger(divided.kv - 1))


@given(size=st.integers(1, 2**50 - 1))
def test_plain_bytes_are_a_size(size: int) -> None:
    assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("900MiB", 900 * MIB), ("6 GiB", 6 * GIB), ("1.5GiB", 3 * GIB // 2), ("2gb", 2 * 10**9), ("512k", 512_000)],
)
def test_sizes_people_write(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(text=st.text(max_size=12))
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    try:
        assert 0 < parse_size(text) < 2**50
    except ValueError as error:
        assert "900MiB" in str(error)


@given(size=st.integers(0, 2**45))
@settings(max_examples=50)
def test_sizes_shown_can_be_read_back(size: int) -> None:
    shown = format_size(size).replace(",", "")
    assume(size > 0 and not shown.startswith("0"))
    assert parse_size(shown) == pytest.approx(size, rel=0.5)


def test_default_budgets() -> None:
    assert default_budget(10 * GIB, 64 * GIB) == 9 * GIB
    assert default_budget(None, 8 * GIB) == 2 * GIB
    assert default_budget(None, 64 * GIB) == 4 * GIB


def test_plans_can_be_made_without_torch() -> None:
    code = "import sys, memory.budget, memory.geometry, memory.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
