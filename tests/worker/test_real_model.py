"""The main paths with the real SmolLM2: it answers, quantised too, and the process stays within its budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assistant.orders import KvSpec, Status
from tests.models import DEFAULT, real_model_store
from tests.worker.process import WorkerProcess

MIB = 1024**2
WINDOW = 2048


@pytest.fixture(scope="module")
def folder() -> Path:
    return real_model_store() / DEFAULT


@pytest.fixture(scope="module")
def short(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as if it had been trained for a quarter of its window: what lies beyond is sooner reached."""
    made = tmp_path_factory.mktemp("short")
    for file in folder.iterdir():
        (made / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text())
    (made / "config.json").unlink()
    (made / "config.json").write_text(json.dumps(config | {"max_position_embeddings": WINDOW}))
    return made


@pytest.mark.parametrize(("budget", "quant"), [("700MiB", "fp16"), ("400MiB", "int8"), ("230MiB", "nf4")])
def test_it_remembers_in_the_best_quantisation_that_fits(folder: Path, budget: str, quant: str) -> None:
    with WorkerProcess(folder, budget=budget, quant="auto") as worker:
        worker.ask("My dog is called Biscuit.", max_tokens=8)
        done = worker.ask("What is the name of my dog?", max_tokens=24)
    assert "Biscuit" in done.text
    assert done.memory.quant == quant
    assert done.usage.cached_tokens > 30
    assert done.usage.peak_bytes <= done.usage.budget_bytes


def test_a_conversation_past_the_window_stays_within_the_budget_at_every_step(short: Path) -> None:
    """By the plan and by the process: since the model is loaded it never grew by more than was planned beside it."""
    lines = [
        f"Ann: on day {day} I walked {day * 7 % 23} miles and met {_name(day)} near the harbour." for day in range(120)
    ]
    loaded, sizes = 0, list[int]()

    with WorkerProcess(short, budget="640MiB", quant="none") as worker:

        def watch(event: Any) -> None:
            nonlocal loaded
            if event.event == "loading":
                loaded = worker.status_bytes("VmRSS")
            sizes.append(worker.status_bytes("VmRSS"))

        done = worker.read(lines, watch)
        asked = worker.ask("Whom did Ann meet?", max_tokens=60)
        sizes.append(worker.status_bytes("VmRSS"))

    memory = asked.memory
    assert done.usage.stored_tokens == done.usage.prompt_tokens > WINDOW
    beside = memory.kv + memory.staging + memory.activations + memory.process
    assert memory.weights + beside <= memory.budget == 640 * MIB
    assert max(sizes) - loaded <= beside
    assert asked.usage.peak_bytes <= asked.usage.budget_bytes


def _name(day: int) -> str:
    return ["Bob", "Cleo", "Dina", "Emil", "Fay"][day % 5]


def test_layers_with_budgets_of_their_own_hold_what_the_plan_says(folder: Path, tmp_path: Path) -> None:
    """Measured once, by sensitivity: the sum is exact, the process stays within the budget, a restart reads nothing."""
    lines = [f"Ann: on day {day} I walked {day * 7 % 23} miles and met {_name(day)}." for day in range(90)]
    spec = {"budget": "640MiB", "quant": "none", "layers": "sensitivity", "mode": "bounded", "block": 64}
    kv = KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
    with WorkerProcess(folder, kv=kv, **spec) as worker:
        worker.read(lines)
        worker.ask("Whom did Ann meet?", max_tokens=4)
        first = worker.ask("When was that?", max_tokens=4)
        status, turns = worker.aside(Status(id="1")), worker.turns
    with WorkerProcess(folder, kv=kv, **spec) as worker:
        worker.turns = turns
        second = worker.ask("And then?", max_tokens=4)
        assert worker.aside(Status(id="1")).kv.layers == status.kv.layers
    assert len(status.kv.layers) == 30
    assert sum(status.kv.layers) == 30 * first.memory.capacity_tokens
    assert max(status.kv.layers) > 2 * min(status.kv.layers)
    assert status.kv.sets[0].least <= min(status.kv.layers) < status.kv.sets[0].entries
    assert second.usage.cached_tokens == first.usage.stored_tokens
    for done in (first, second):
        assert done.usage.resident_tokens <= done.memory.capacity_tokens < done.usage.stored_tokens
        assert done.usage.peak_bytes <= done.usage.budget_bytes
