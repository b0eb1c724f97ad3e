"""Layers with budgets of their own: the sum is the plan's, no layer passes its own, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from memory.block import CHUNK
from memory.budget import HOME_COPY, MIB, Plan, plan
from memory.errors import BudgetTooSmall, TextTooLong, UnsupportedModel
from memory.geometry import Geometry, LayerGeometry
from memory.layers import ALLOCATORS, Profile, allocate, make_allocator
from memory.policy import POLICIES
from memory.store import Memory
from tests.memory.models import CONFIGS, KINDS, WINDOW, full_logits, make_memory, make_plan, model_pair, tokens
from tests.memory.test_eviction import TOLERANCE, masked_attention, visible_entries
from tests.memory.tiers import read_all, stored_memory

TEXT = tokens(1400, 7)
NO_FIXTURE_CHECK = [HealthCheck.function_scoped_fixture]
UNEVEN = (150, 300, 210)
"""Entries of three layers, 220 on the mean."""
numbers = st.floats(0, 2)


def full_layers(kind: str) -> int:
    return len(Geometry.from_config(CONFIGS[kind].to_dict()).full_layers)


def uneven(kind: str) -> tuple[int, ...]:
    """Capacities for every layer of `kind` without a sliding window, where there are several."""
    return UNEVEN if full_layers(kind) == 3 else ()


pytestmark = pytest.mark.usefixtures("always_bearable")


# --- the plan --------------------------------------------------------------------------------------------------------


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    heads, size = draw(st.integers(1, 8)), draw(st.sampled_from([32, 64, 128]))
    windows = draw(st.lists(st.sampled_from([None, None, 512]), min_size=1, max_size=30))
    layers = tuple(LayerGeometry(heads, size, window) for window in windows)
    return Geometry(layers, 8 * heads, 1024, 2048, 32000, draw(st.sampled_from([512, 2048, 32768])), tied=True)


@st.composite
def shared(draw: st.DrawFn, layers: tuple[LayerGeometry, ...]) -> list[float]:
    """What an allocator makes of a random profile."""
    values = [draw(st.lists(numbers, min_size=len(layers), max_size=len(layers))) for _ in range(2)]
    profile = Profile(
        *(
            tuple(one if layer.window is None else None for one, layer in zip(part, layers, strict=True))
            for part in values
        )
    )
    allocator = make_allocator(draw(st.sampled_from(sorted(ALLOCATORS))), alpha=draw(st.floats(0, 4)))
    return allocator.shares(profile, [at for at, layer in enumerate(layers) if layer.window is None])


@settings(max_examples=150)
@given(data=st.data(), geometry=geometries(), budget=st.integers(1, 4000), block=st.sampled_from([16, 64, 256]))
def test_the_layers_budgets_are_exactly_what_the_kv_bytes_hold(
    data: st.DataObject, geometry: Geometry, budget: int, block: int
) -> None:
    shares = data.draw(shared(geometry.layers))
    try:
        even = plan(geometry, budget * MIB, 0, 2, block)
    except BudgetTooSmall:
        with pytest.raises(BudgetTooSmall):
            plan(geometry, budget * MIB, 0, 2, block, shares=shares)
        return
    divided = plan(geometry, budget * MIB, 0, 2, block, shares=shares)
    assert divided.total <= budget * MIB
    if not divided.capacities:
        assert divided == even
        return
    full = geometry.full_layers
    assert sum(divided.capacities) == divided.capacity * len(full)
    size = sum(count * layer.bytes_per_entry(2) for count, layer in zip(divided.capacities, full, strict=True))
    assert size == geometry.kv_bytes_per_token(2) * divided.capacity
    assert max(divided.capacities) <= geometry.window
    least, mean = (
        count * 2 // HOME_COPY - divided.block - divided.patch for count in (min(divided.capacities), divided.capacity)
    )
    assert min(divided.capacities) < divided.capacity
    assert mean >= least >= max(2 * CHUNK, mean // 4)


def test_where_nothing_can_be_moved_the_plan_is_the_one_without() -> None:
    """Of 7 MiB so little is left to divide that dividing it would cost more than it moves."""
    geometry = Geometry((LayerGeometry(7, 32, None),) * 6, 56, 1024, 2048, 32000, 512, tied=True)
    divided = plan(geometry, 7 * MIB, 0, 2, 64, shares=[3.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    assert divided == plan(geometry, 7 * MIB, 0, 2, 64)


def test_with_equal_shares_the_plan_is_the_one_without() -> None:
    geometry = Geometry((LayerGeometry(3, 64, None),) * 30, 9, 576, 1536, 49152, 8192, tied=True)
    shares = make_allocator("uniform", alpha=2.0).shares(None, range(30))
    assert plan(geometry, 300 * MIB, 0, 4, 256, shares=shares) == plan(geometry, 300 * MIB, 0, 4, 256)


def test_the_smallest_plan_leaves_nothing_to_move() -> None:
    geometry = Geometry((LayerGeometry(3, 64, None),) * 30, 9, 576, 1536, 49152, 8192, tied=True)
    with pytest.raises(BudgetTooSmall) as refused:
        plan(geometry, MIB, 0, 4, 16)
    smallest = plan(geometry, refused.value.smallest, 0, 4, 16, shares=range(30))
    assert smallest.capacities == ()


def test_layers_of_several_shapes_do_not_share() -> None:
    mixed = (LayerGeometry(3, 64, None), LayerGeometry(6, 64, None))
    geometry = Geometry(mixed, 12, 576, 1536, 49152, 8192, tied=True)
    with pytest.raises(UnsupportedModel, match="differ in shape"):
        plan(geometry, 300 * MIB, 0, 4, 256, shares=[1.0, 2.0])
    assert plan(geometry, 300 * MIB, 0, 4, 256, shares=[1.0, 1.0]).capacities == ()


# --- the working set -------------------------------------------------------------------------------------------------


@st.composite
def divisions(draw: st.DrawFn, least_block: int = 4) -> tuple[int, int, tuple[int, ...]]:
    """(mean capacity, block, capacities of three layers), each with room for the block past the trained window."""
    block = draw(st.integers(least_block, 40))
    floor = 3 * (block + 16 + 2 * CHUNK) // 2
    capacity = draw(st.integers(floor + 20, 360))
    shares = draw(st.lists(st.one_of(st.just(0.0), numbers), min_size=3, max_size=3))
    return capacity, block, tuple(allocate(shares, 3 * capacity, floor, WINDOW))


def assert_within(memory: Memory, division: Plan) -> None:
    """Every layer within its own budget, all of them within the plan's; what is protected is there."""
    protection = memory.reader.protection
    for layer, most in zip(memory.working_set.bounded, division.capacities, strict=True):
        assert layer.length <= layer.capacity <= most
        assert layer.pool.arena.numel() == 2 * 2 * 8 * most
        for head in layer.origins().tolist():
            held = set(head)
            assert held >= set(range(min(layer.seen, max(protection.prefix, protection.sinks))))
            assert held >= set(range(max(0, layer.seen - protection.recent), layer.seen))
    assert memory.resident <= division.capacity


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=8)
@given(division=divisions(), prefix=st.integers(0, 8))
def test_no_layer_passes_its_budget_and_what_is_protected_stays(
    policy: str, division: tuple[int, int, tuple[int, ...]], prefix: int
) -> None:
    capacity, block, capacities = division
    divided = make_plan("llama", capacity, block, capacities=capacities)
    memory = make_memory("llama", divided, policy)
    memory.protect(prefix)
    while len(memory.tokens) < 3 * capacity:
        assert torch.isfinite(memory.read(TEXT[len(memory.tokens) :][:29])).all()
        assert_within(memory, divided)


@pytest.mark.parametrize("policy", ["sinks_recent", "recall"])
@pytest.mark.parametrize("mode", ["auto", "exact", "bounded"])
@settings(max_examples=4)
@given(division=divisions(least_block=12), prefix=st.integers(0, 8))
def test_no_layer_passes_its_budget_with_tiers_below(
    policy: str,
    mode: str,
    division: tuple[int, int, tuple[int, ...]],
    prefix: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    capacity, block, capacities = division
    folder = tmp_path_factory.mktemp("kv")
    with stored_memory("llama", folder, capacity, block, mode, policy, capacities) as memory:
        memory.protect(prefix)
        while len(memory.tokens) < 3 * capacity:
            memory.resume(TEXT[: len(memory.tokens) + 60])
            memory.read(TEXT[len(memory.tokens) :][:57])
            assert_within(memory, memory.plan)
            for token in TEXT[len(memory.tokens) :][:3]:
                memory.step(token)
                assert_within(memory, memory.plan)
            memory.seal()


@pytest.mark.parametrize("policy", ["sinks_recent", "patched_prompt"])
@settings(max_examples=10)
@given(division=divisions(), seed=st.integers(0, 9))
def test_equals_full_attention_with_the_same_entries_masked(
    policy: str, division: tuple[int, int, tuple[int, ...]], seed: int
) -> None:
    capacity, block, capacities = division
    AttentionInterface.register("masked_reference", masked_attention)
    reference = model_pair("llama")[1]
    reference.set_attn_implementation("masked_reference")
    try:
        ids = tokens(400, seed)
        memory = make_memory("llama", make_plan("llama", capacity, block, capacities=capacities), policy)
        everything = Cache(layers=[DynamicLayer() for _ in memory.working_set.layers])
        for start in range(0, 400, block):
            piece = ids[start : start + block]
            memory.reader.make_room(len(piece))
            with torch.inference_mode():
                wanted = reference(
                    torch.tensor([piece]), past_key_values=everything, visible=visible_entries(memory)
                ).logits[0, -1]
            assert torch.allclose(memory.read(piece), wanted, atol=TOLERANCE)
    finally:
        reference.set_attn_implementation("sdpa")


@settings(max_examples=10, suppress_health_check=NO_FIXTURE_CHECK)
@given(division=divisions(), cuts=st.sets(st.integers(1, 449), max_size=3), ram_rows=st.sampled_from([0, 3]))
def test_exact_mode_equals_full_attention(
    division: tuple[int, int, tuple[int, ...]],
    cuts: set[int],
    ram_rows: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    capacity, block, capacities = division
    expected, folder = full_logits("llama", TEXT[:480]), tmp_path_factory.mktemp("kv")
    with stored_memory("llama", folder, capacity, block, "exact", capacities=capacities, ram_rows=ram_rows) as memory:
        for cut in [*sorted(cuts), 450]:
            assert torch.allclose(read_all(memory, TEXT[:cut])[1], expected[cut - 1], atol=1e-3)
            memory.seal()
        for at in range(450, 455):
            assert torch.allclose(memory.step(TEXT[at]), expected[at], atol=1e-3)
        assert memory.exact


# --- what else keeps a working set -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [200, 450, 1100])
@pytest.mark.parametrize("mode", ["auto", "bounded"])
@pytest.mark.parametrize("policy", ["sinks_recent", "recall"])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_restart_goes_on_bit_by_bit(kind: str, policy: str, mode: str, length: int, tmp_path: Path) -> None:
    follow = [*TEXT[:length], 5, *TEXT[1300:1320]]

    def first(memory: Memory) -> None:
        read_all(memory, TEXT[:length])
        memory.step(5)
        memory.seal()

    def second(memory: Memory) -> list[torch.Tensor]:
        assert memory.resume(follow).reused == length + 1
        return [memory.read(follow[length + 1 :]), *(memory.step(token) for token in TEXT[1320:1325])]

    sizes: dict[str, Any] = {"capacity": 220, "mode": mode, "policy": policy, "capacities": uneven(kind)}
    with stored_memory(kind, tmp_path / "a", **sizes) as memory:
        first(memory)
        expected = second(memory)
    with stored_memory(kind, tmp_path / "b", **sizes) as memory:
        first(memory)
    with stored_memory(kind, tmp_path / "b", **sizes) as memory:
        found = second(memory)
        assert_within(memory, memory.plan)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("length", [300, 1100])
def test_what_was_stored_under_other_layer_budgets_is_used(length: int, tmp_path: Path) -> None:
    for capacities in (UNEVEN, (300, 150, 210), (), UNEVEN):
        with stored_memory("llama", tmp_path, 220, capacities=capacities) as memory:
            reused = memory.resume(TEXT[: length + 10]).reused
            assert reused in (0, length, length + 1)
            assert torch.isfinite(memory.read(TEXT[reused:length] or TEXT[length : length + 1])).all()
            memory.seal()
            if capacities:
                assert_within(memory, memory.plan)


@pytest.mark.parametrize("kind", KINDS)
def test_conversations_take_turns_in_layers_of_any_size(kind: str) -> None:
    memory = make_memory(kind, make_plan(kind, 440, 32, capacities=tuple(2 * count for count in uneven(kind))))
    dialogues = {"chat": tokens(90, 1), "agent": tokens(90, 2)}
    for count in (40, 60, 90):
        for name, ids in dialogues.items():
            memory.open(name)
            reused = memory.resume(ids[:count]).reused
            assert reused in (0, 40, 60)
            assert (reused == 0) == (count == 40)
            assert torch.allclose(memory.read(ids[reused:count]), full_logits(kind, ids[:count])[-1], atol=1e-4)
    assert set(memory.sets()) == set(dialogues)


def test_a_layer_that_holds_everything_has_nothing_recalled(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, 260, policy="recall", capacities=(150, 480, 150)) as memory:
        read_all(memory, TEXT[:400])
        memory.step(5)
        assert memory.served == "recall"
        assert [layer.complete for layer in memory.working_set.layers] == [False, True, False]
        recaller = memory.sealer.trail.recaller
        assert recaller is not None
        assert set(recaller.asked) == {0, 2}


def test_a_system_prompt_too_long_for_the_smallest_layer_is_refused_with_what_to_do() -> None:
    memory = make_memory("llama", make_plan("llama", 220, 32, capacities=UNEVEN))
    memory.protect(60)
    with pytest.raises(TextTooLong, match="layers = uniform"):
        memory.read(TEXT[:600])
    even = make_memory("llama", make_plan("llama", 220, 32))
    even.protect(60)
    even.read(TEXT[:600])
