"""What was sealed at the end of a turn comes back whole, whatever happened in between."""

from __future__ import annotations

import errno
import random
import threading
from pathlib import Path

import pytest
import torch

from memory.block import CHUNK
from memory.errors import CodecError
from memory.spill import Spill
from memory.store import Memory
from tests.memory.failing import failing
from tests.memory.models import full_logits, make_memory, make_plan, tokens
from tests.memory.tiers import read_all, stored_memory

NAMES, LONGEST, TURNS = "abcd", 330, 45


def hold(spill: Spill, seconds: float) -> threading.Event:
    """Nothing that is handed over from now on is written for so long, or until the event that is returned is set."""
    going = threading.Event()
    spill.submit(going.wait, seconds)
    return going


def begin(memory: Memory, name: str, ids: list[int]) -> int:
    """Open `name` for a prompt; how many of its tokens need no reading."""
    memory.open(name, tokens=len(ids))
    return memory.resume(ids).reused


@pytest.mark.parametrize(("seed", "lag", "rows"), [(0, 0.0, 0), (1, 0.03, 0), (2, 0.03, 3)])
def test_a_sealed_text_is_never_read_again(seed: int, lag: float, rows: int, tmp_path: Path) -> None:
    """Four conversations on a pool that holds about two, with a disk that is late by `lag` seconds."""
    draw, sealed, restored = random.Random(seed), dict[str, list[int]](), 0
    with stored_memory("llama", tmp_path, capacity=500, mode="bounded", ram_rows=rows) as memory:
        assert memory.spill is not None
        for _ in range(TURNS):
            name, how = draw.choice(NAMES), draw.choice(["on", "on", "on", "edited", "anew", "given up"])
            before = sealed.get(name, [])
            kept = {"anew": 0, "edited": draw.randint(0, len(before))}.get(how, len(before))
            prompt = before[:kept] + tokens(draw.choice((1, 2, 8, 31, 64, 100)), draw.randrange(50))
            if len(prompt) > LONGEST:
                memory.forget(name)
                del sealed[name]
                continue
            memory.pins = draw.sample(NAMES, draw.randint(0, 2))
            here = name in memory.sets()
            reused = begin(memory, name, prompt)
            assert reused >= min(kept, len(prompt) - 1), (name, how)
            restored += not here and kept > 0
            if lag:
                hold(memory.spill, lag)
            memory.read(prompt[reused:])
            if how != "given up":
                for token in tokens(draw.choice((0, 1, 3, 16)), draw.randrange(50)):
                    memory.step(token)
                memory.seal()
                sealed[name] = list(memory.tokens)
    assert restored > 3


def test_an_open_chunk_is_stored_though_the_row_that_comes_next_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokens(2 * CHUNK)
    with stored_memory("llama", tmp_path) as memory:
        assert memory.spill is not None
        memory.read(ids[:70])
        memory.spill.flush()
        with failing(monkeypatch, "pwrite", 1, errno.ENOSPC, for_ever=True):
            going = hold(memory.spill, 20.0)
            memory.seal()
            memory.read(ids[70:])
            going.set()
            memory.spill.flush()
        assert memory.spill.notice is not None
    with stored_memory("llama", tmp_path) as memory:
        assert memory.resume(ids).reused == 70


def test_an_open_chunk_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stored_memory("llama", tmp_path) as memory:
        assert memory.spill is not None
        memory.read(tokens(70))
        memory.spill.flush()
        monkeypatch.setattr(memory.spill.lossless, "encode", _refuse)
        memory.seal()
        memory.spill.flush()
        assert memory.spill.notice is not None
        assert not memory.spill.writing


def test_an_open_chunk_that_another_text_sealed_a_row_after_is_found(tmp_path: Path) -> None:
    ids, other = tokens(90), tokens(2 * CHUNK, 5)
    with stored_memory("llama", tmp_path) as memory:
        memory.read(ids)
        memory.seal()
        edited = [*ids[:70], (ids[70] + 1) % 97, *other]
        read_all(memory, edited[: 2 * CHUNK])  # and the turn is never finished
    with stored_memory("llama", tmp_path) as memory:
        reused, logits = read_all(memory, [*ids, 1])
        assert reused == 90
        assert torch.allclose(logits, full_logits("llama", [*ids, 1])[-1], atol=1e-4)


@pytest.mark.parametrize("told", [0, 40])
def test_a_large_waiting_set_comes_back_for_a_text_of_unknown_length_or_a_short_one(told: int) -> None:
    """The set that leaves would take whole pages: 2 of 64 entries for 65, and then the large one has no room."""
    memory = make_memory("llama", make_plan("llama", 356, 8))
    large, small = tokens(256), tokens(65, 1)
    memory.open("large")
    memory.read(large)
    memory.open("small", tokens=len(small))
    memory.read(small)
    assert list(memory.sets()) == ["large", "small"]

    memory.open("large", tokens=told)

    assert memory.tokens == large
    assert torch.allclose(memory.step(1), full_logits("llama", [*large, 1])[-1], atol=1e-4)


def test_a_re_indexed_set_comes_back_though_a_pinned_one_must_leave_for_it() -> None:
    memory = make_memory("llama", make_plan("llama", 480, 8))
    for name, count in (("long", 600), ("pinned", 65), ("chat", 5)):
        memory.open(name, tokens=count)
        memory.read(tokens(count))
    assert list(memory.sets()) == ["long", "pinned", "chat"]
    memory.pins = ["pinned"]

    memory.open("long")

    assert memory.tokens == tokens(600)
    assert memory.step(1).isfinite().all()


def _refuse(*_: object) -> None:
    raise CodecError("A test says so.")
