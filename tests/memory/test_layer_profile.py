"""The layer profile: it measures what it says, on every kind of model, and is kept until something differs."""

from __future__ import annotations

import argparse
import inspect
import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from memory.geometry import Geometry
from memory.layers import Profile, load_or_measure
from memory.layers.measure import BLOCK, OUTLIERS, PART, SINKS, STRIDE, calibration_text, measure
from tests.memory.models import CONFIGS, KINDS, WINDOW, model_pair, tokens
from tests.models import DEFAULT, real_model_store

PROFILE = Profile((0.0, None, 0.125), (0.5, None, 0.75))
FULL_KINDS = ["llama", "qwen2", "qwen3", "mistral"]


def full_layers(kind: str) -> list[bool]:
    return [layer.window is None for layer in Geometry.from_config(CONFIGS[kind].to_dict()).layers]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_with_a_window_have_no_numbers_and_the_others_have_both(kind: str) -> None:
    profile = measure(model_pair(kind)[0], tokens(300))
    for values, low in ((profile.sensitivity, 0.0), (profile.selectivity, 1 / PART)):
        assert [value is not None for value in values] == full_layers(kind)
        assert all(low <= value <= 2 for value in values if value is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_drifts_where_nothing_is_hidden(kind: str) -> None:
    profile = measure(model_pair(kind)[0], tokens(300), resident=300)
    assert all(value < 1e-6 for value in profile.sensitivity if value is not None)


def keys_under(model: Any, ids: list[int], visible: torch.Tensor) -> list[torch.Tensor]:
    """Keys [KV heads, tokens, size] of every layer, read in one go by transformers' own attention under a mask."""
    cache = DynamicCache()
    mask = torch.zeros(visible.shape).masked_fill_(~visible, -torch.inf)[None, None]
    with torch.inference_mode():
        model(torch.tensor([ids]), attention_mask=mask, past_key_values=cache, use_cache=True)
    return [layer.keys[0] for layer in cache.layers]


@pytest.mark.parametrize("kind", FULL_KINDS)
@pytest.mark.parametrize("resident", [10, 100])
def test_sensitivity_is_that_of_sinks_the_latest_and_the_own_block(kind: str, resident: int) -> None:
    ids = tokens(400, seed=5)
    query, key = torch.arange(400)[:, None], torch.arange(400)[None]
    start = query // BLOCK * BLOCK
    causal = key <= query
    seen = causal & ((key < SINKS) | (key >= start - (resident - SINKS)))
    theirs = model_pair(kind)[1]
    expected = []
    for full, blocked in zip(keys_under(theirs, ids, causal), keys_under(theirs, ids, seen), strict=True):
        drift = 1 - torch.cosine_similarity(full, blocked, dim=-1).mean(0)
        expected.append(drift.sort().values[: 400 - round(OUTLIERS * 400)].mean().item())
    assert max(expected) > 1e-3
    assert measure(model_pair(kind)[0], ids, resident).sensitivity == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", FULL_KINDS)
def test_selectivity_is_the_attention_of_the_strongest_eighth(kind: str) -> None:
    ids = tokens(300, seed=6)
    eager = deepcopy(model_pair(kind)[1])
    eager.set_attn_implementation("eager")
    with torch.inference_mode():
        attentions = eager(torch.tensor([ids]), output_attentions=True).attentions
    expected = []
    for layer in attentions:
        rows = [
            layer[0, :, place, : place + 1].topk(math.ceil((place + 1) / PART)).values.sum(-1).mean()
            for place in range(STRIDE - 1, 300, STRIDE)
        ]
        expected.append(torch.stack(rows).mean().item())
    assert measure(model_pair(kind)[0], ids).selectivity == pytest.approx(expected, abs=1e-5)


def test_the_trained_window_is_not_passed() -> None:
    model = model_pair("llama")[0]
    assert measure(model, tokens(WINDOW + 200)) == measure(model, tokens(WINDOW + 200)[:WINDOW])


def test_a_text_shorter_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at least {BLOCK} tokens, and this one has {BLOCK - 1}"):
        measure(model_pair("llama")[0], tokens(BLOCK - 1))


def test_in_half_precision_the_profile_is_about_the_same() -> None:
    model = model_pair("qwen3")[0]
    half = measure(deepcopy(model).to(torch.bfloat16), tokens(300))
    for name in ("sensitivity", "selectivity"):
        assert getattr(half, name) == pytest.approx(getattr(measure(model, tokens(300)), name), abs=0.03)


numbers = st.one_of(st.none(), st.floats(0, 2))


@given(st.lists(numbers, max_size=50))
def test_a_profile_comes_back_from_json_to_the_last_bit(values: list[float | None]) -> None:
    profile = Profile(tuple(values), tuple(values))
    assert Profile.from_json(profile.to_json()) == profile


def test_a_kept_profile_is_not_measured_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "profiles"
    assert load_or_measure(folder, "a1", lambda: PROFILE) == PROFILE
    assert load_or_measure(folder, "a1", lambda: pytest.fail("measured again")) == PROFILE
    other = Profile((0.5,), (0.5,))
    assert load_or_measure(folder, "b2", lambda: other) == other
    assert sorted(path.name for path in folder.iterdir()) == ["a1.json", "b2.json"]


WRITTEN = json.loads(PROFILE.to_json())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        PROFILE.to_json().encode()[:-20],
        b"[]",
        *(
            json.dumps(WRITTEN | change).encode()
            for change in (
                {"version": 0},
                {"sensitivity": None},
                {"sensitivity": ["0.1", None, 0.2]},
                {"sensitivity": [float("nan"), None, 0.2]},
                {"sensitivity": [-0.1, None, 0.2]},
                {"selectivity": [0.5, 0.5, 0.5]},
                {"selectivity": [0.5]},
            )
        ),
    ],
)
def test_a_damaged_file_is_measured_anew_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a1.json"
    path.write_bytes(content)
    assert load_or_measure(tmp_path, "a1", lambda: PROFILE) == PROFILE
    assert Profile.from_json(path.read_text()) == PROFILE


def test_without_a_folder_it_is_measured_and_not_kept(tmp_path: Path) -> None:
    assert load_or_measure(None, "a1", lambda: PROFILE) == PROFILE
    (tmp_path / "file").write_text("in the way")
    assert load_or_measure(tmp_path / "file", "a1", lambda: PROFILE) == PROFILE
    assert (tmp_path / "file").read_text() == "in the way"


def correlation(first: tuple[float | None, ...], second: tuple[float | None, ...]) -> float:
    return float(torch.corrcoef(torch.tensor([first, second]))[0, 1])


def test_the_profile_of_the_default_model_belongs_to_it_and_not_to_the_text() -> None:
    """Prose against Python code: 0.97 and 0.97 were measured; the first layer's keys cannot drift."""
    folder = real_model_store() / DEFAULT
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prose = tokenizer(calibration_text())["input_ids"]
    code = tokenizer(inspect.getsource(argparse)[20_000:40_000])["input_ids"]
    assert 1_500 < len(prose) < 2_500
    first, second = (measure(model, ids[:512]) for ids in (prose, code))
    assert first.sensitivity[0] == pytest.approx(0, abs=1e-6)
    assert all(0 < value < 2 for value in first.sensitivity[1:] if value is not None)
    assert correlation(first.sensitivity, second.sensitivity) > 0.8
    assert correlation(first.selectivity, second.selectivity) > 0.9
