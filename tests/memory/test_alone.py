"""The library in a notebook: any causal model, a text longer than its window, one budget."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memory import Geometry, Memory, make_policy, parse_size, plan
from memory.alone import memory_of
from memory.budget import MIB
from tests.memory.models import WINDOW, model_pair, tokens


def test_the_example_of_the_package() -> None:
    model = model_pair("qwen3")[0]
    geometry = Geometry.from_config(model.config.to_dict())
    division = plan(geometry, parse_size("4MiB"), weights=model.get_memory_footprint(), itemsize=4, block=64)
    memory = Memory(model, division, make_policy("sinks_recent"))

    logits = memory.read(tokens(3 * WINDOW))
    for _ in range(20):
        logits = memory.step(int(logits.argmax()))

    assert len(memory.tokens) == 3 * WINDOW + 20
    assert memory.resident < WINDOW
    assert memory.ledger.peak <= 4 * MIB


def test_what_was_read_is_there_the_next_time_to_the_token(tmp_path: Path) -> None:
    model, ids = model_pair("qwen3")[0], tokens(WINDOW // 2 + 7)
    with memory_of(model, parse_size("64MiB"), tmp_path, weights="w") as memory:
        memory.open("talk")
        memory.read(ids)
    with memory_of(model, parse_size("64MiB"), tmp_path, weights="w") as memory:
        memory.open("talk")
        assert memory.resume([*ids, -1]).reused == len(ids)
    with memory_of(model, parse_size("64MiB"), tmp_path, weights="other") as memory:
        memory.open("talk")
        assert memory.resume([*ids, -1]).reused == 0, "KV of other weights is never served"


def test_a_policy_that_asks_with_a_text_wants_it(tmp_path: Path) -> None:
    model = model_pair("qwen3")[0]
    with (
        pytest.raises(ValueError, match="give its ids as patch"),
        memory_of(model, parse_size("64MiB"), tmp_path, weights="w", policy="patched_prompt"),
    ):
        pass


def test_it_imports_nothing_of_the_program() -> None:
    code = "import sys, memory.store; sys.exit(any(name.split('.')[0] in ('assistant', 'tui') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_its_names_come_when_asked_for_those_without_torch_without_it() -> None:
    code = "import sys; from memory import Geometry, parse_size, plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
