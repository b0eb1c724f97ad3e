"""The real engine as the device of a replay: `memory.store.Memory` in this process, every part of a step timed."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.agents.device import Spent
from benchmarks.agents.trace import Step
from benchmarks.tiers import memory_on
from memory.block import CHUNK
from memory.store import Memory

VOCABULARY = 256


def tiny_model(window: int) -> Any:
    """A random model of two layers that was "trained" for `window` positions."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=window,
    )
    return LlamaForCausalLM(config).eval()


class RealDevice:
    """Runs steps over random tokens, each program's own; what is written is drawn beforehand, not sampled.

    Seconds are this thread's own on the processor, and torch runs on it alone: on a machine that others use too, time
    on the wall says more about them.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._texts = dict[str, list[int]]()
        self.moved = 0
        """Tokens that changed places for the last step."""
        self.read_again = 0
        """Tokens of open chunks that were not found on disk."""

    def resident(self) -> Collection[str]:
        return self.memory.sets()

    def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent:
        """One step, to the end of what it writes behind itself.

        Raises:
            AssertionError: the engine read a sealed chunk again, evicted, or could not write what it sealed.
        """
        memory, before = self.memory, self._texts.get(program, [])[: step.kept]
        prompt = before + _tokens(program, step.kept, step.new)
        written = _tokens(program, len(prompt), step.out)
        marks = [time.thread_time()]
        leaving, name, known = len(memory.tokens), memory.sealer.trail.conversation, program in memory.sets()
        memory.pins = pins
        memory.open(program, tokens=len(prompt))
        waits = program != name and name in memory.sets()
        self.moved = (leaving if waits else 0) + (len(memory.tokens) if known and program != name else 0)
        marks.append(time.thread_time())
        resumed = memory.resume(prompt)
        marks.append(time.thread_time())
        memory.read(prompt[resumed.reused :])
        marks.append(time.thread_time())
        for token in written:
            memory.step(token)
        marks.append(time.thread_time())
        memory.seal()
        marks.append(time.thread_time())
        self.read_again += max(0, step.kept - resumed.reused)
        lost = f"{program}: {resumed.reused} of {step.kept} tokens kept: {resumed.reason}"
        assert memory.spill is None or memory.spill.notice is None, f"{lost}; {memory.spill.notice}"
        assert resumed.reused > step.kept - CHUNK, lost
        assert memory.complete, f"{program}: the pool is too small for its {len(memory.tokens)} tokens"
        self._texts[program] = prompt + written
        switch, reload, prefill, decode, seal = (after - earlier for earlier, after in pairwise(marks))
        missed = step.kept if resumed.source == "disk" else 0
        return Spent(switch, reload, prefill, decode, seal, missed)


@contextmanager
def real_device(model: Any, folder: Path, entries: int, ram: int = 0) -> Iterator[RealDevice]:
    """The engine over `model` with a pool of `entries`, tiers in `folder`, `ram` bytes of them in RAM."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with memory_on(model, folder, "int8", entries, "bounded", ram) as memory:
            yield RealDevice(memory)
    finally:
        torch.set_num_threads(threads)


def _tokens(program: str, first: int, count: int) -> list[int]:
    generator = random.Random(f"{program} {first} {count}")
    return [generator.randrange(VOCABULARY) for _ in range(count)]
