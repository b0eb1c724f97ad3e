"""Policies that choose for the tokens at hand, through the program's own memory: its working set, its tiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assistant.settings import load_settings
from assistant.template import sentence_ends
from benchmarks.quality.history import History
from benchmarks.tiers import memory_on
from memory import sealing
from memory.aside import DIGESTED, PARTS
from memory.budget import PATCH_TOKENS
from memory.policy import POLICIES, Policy
from memory.store import Memory

BLOCK = 256


def policy_of(name: str) -> Policy:
    """The policy of "name" or "name:knob=value:…"; "default" is the one that the program uses by itself."""
    name, *knobs = name.split(":")
    made = POLICIES[load_settings().policy if name == "default" else name]
    kinds = {field.name: type(field.default) for field in fields(made)}  # type: ignore[arg-type]
    given = dict(knob.split("=") for knob in knobs)
    return made(**{knob: kinds[knob](value) for knob, value in given.items()})


def charged(history: History, policy: Policy, budget: float) -> int:
    """Entries of a working set whose bytes, with the digests that the policy needs, are the budget's share."""
    entries = int(history.tokens * budget)
    if policy.queries != "current":
        return entries
    keys = history.layers[0][0]
    digests = min(DIGESTED, history.tokens // 64) * PARTS * 2 * keys.shape[0] * keys.shape[2]
    return entries - -(-digests // history.bytes_per_entry)


@contextmanager
def program(
    model: Any, tokenizer: Any, history: History, folder: Path, policy: Policy, entries: int, shares: Sequence[float]
) -> Iterator[Program]:
    """The program's memory of a history that is stored in `folder`; layers get `shares` of the entries."""
    sealing.BEARABLE = float("inf")  # how prompts are read does not depend on what else the machine does
    ram = 2 * history.tokens * history.bytes_per_entry * len(history.layers) // 4
    ends = sentence_ends(tokenizer) if policy.unit == "sentence" else frozenset[int]()
    capacity = entries + BLOCK + PATCH_TOKENS
    with memory_on(model, folder, "int8", capacity, "auto", ram, policy, ends, shares) as memory:
        memory.protect(history.talk.prefix)
        yield Program(model, memory, history.talk.ids)


@dataclass(slots=True)
class Program:
    """Answers from the program's memory."""

    model: Any
    memory: Memory
    ids: list[int]

    def ask(self, asked: Sequence[int], continuation: Sequence[int], patch: Sequence[int] | None) -> Tensor:
        """The logits before each token of `continuation` and after the last, [1 + tokens, vocabulary]; the turn begins
        with what `patch` asks for, where the policy has one."""
        self.model.set_attn_implementation("kv_memory")
        whole = [*self.ids, *asked]
        reused = self.memory.resume(whole).reused
        if patch is not None:
            self.memory.focus(patch)
        found = [self.memory.read(whole[reused:])]
        found += [self.memory.step(token) for token in continuation]
        return torch.stack(found)

    def told(self) -> dict[str, Any]:
        """What the last answer needed: how it was served, and what was recalled and missed."""
        found = self.memory.recalled()
        if found is None:
            return {"served": self.memory.served}
        exact = found.exact_steps / max(1, found.steps)
        return {"served": self.memory.served, "moved": found.moved, "missed": found.missed, "exact_steps": exact}

    def go_on(
        self, asked: Sequence[int], said: list[int], patch: Sequence[int] | None, ends: frozenset[int], most: int
    ) -> list[int]:
        """The greedy reply that begins with `said`."""
        logits = self.ask(asked, said, patch)[-1]
        while len(said) < most and (not said or said[-1] not in ends):
            said = [*said, int(logits.argmax())]
            if len(said) < most:
                logits = self.memory.step(said[-1])
        return said
