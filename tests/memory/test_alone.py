"""The library in a notebook: any causal model, a text longer than its window, one budget."""

from __future__ import annotations

import subprocess
import sys

from memory import Geometry, Memory, make_policy, parse_size, plan
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


def test_it_imports_nothing_of_the_program() -> None:
    code = "import sys, memory.store; sys.exit(any(name.split('.')[0] in ('assistant', 'tui') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_its_names_come_when_asked_for_those_without_torch_without_it() -> None:
    code = "import sys; from memory import Geometry, parse_size, plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
