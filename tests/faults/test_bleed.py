"""2,000 interleaved turns over 32 conversations, each with its own secrets: none ever answers with another's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.memory.models import VOCABULARY, model_pair
from tests.memory.tiers import stored_memory

CONVERSATIONS = 32
SECRET = 24


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
def test_every_answer_is_that_of_a_cold_reading(part: int, tmp_path: Path) -> None:
    """500 turns in each part; restarts, changed turns, a RAM tier of six rows and a small pool force every path."""
    chooser = random.Random(part)
    texts = {f"talk {number}": secret(number) for number in range(CONVERSATIONS)}
    done, reused, total = 0, 0, 0
    while done < 500:
        with stored_memory(
            "llama", tmp_path, capacity=chooser.choice([200, 300, 512]), mode="exact", ram_rows=6
        ) as mind:
            for _ in range(chooser.randint(20, 120)):
                name = chooser.choice(list(texts))
                ids = next_turn(texts[name], name, chooser)
                mind.open(name)
                found = mind.resume(ids)
                logits = mind.read(ids[found.reused :])
                with torch.inference_mode():
                    cold = model_pair("llama")[1](torch.tensor([ids])).logits[0, -1]
                assert torch.allclose(logits, cold, atol=1e-3), (name, len(ids), found)
                texts[name] = ids
                mind.seal()
                reused, total, done = reused + found.reused, total + len(ids), done + 1
    assert reused > 0.6 * total


def secret(number: int) -> list[int]:
    return random.Random(number).choices(range(VOCABULARY), k=SECRET)


def next_turn(ids: list[int], name: str, chooser: random.Random) -> list[int]:
    """The conversation with another turn, now and then with its end changed, begun anew before the window ends."""
    if len(ids) > 400:
        ids = secret(int(name.split()[1]))
    if chooser.random() < 0.1:
        ids = ids[: chooser.randint(min(SECRET, len(ids)), len(ids))]
    return ids + chooser.choices(range(VOCABULARY), k=chooser.randint(1, 70))
