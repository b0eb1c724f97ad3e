"""The front door: one conversation's memory. Resume what is known, read what is new, step token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memory.attention import NAME, register
from memory.budget import Ledger, Plan
from memory.cache import WorkingSet
from memory.geometry import FULL, SLIDING, Geometry
from memory.policy import POLICIES, Policy, Protection
from memory.prefill import Progress, Reader
from memory.rope import layer_ropes

RECENT = 256
"""Tokens of the recent window that always stay, at most a quarter of the working set."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What `Memory.resume` found: `reused` tokens need no reading; `reason` says why the others that were read before
    must be read again."""

    reused: int
    reason: str | None


class Memory:
    """KV of one conversation for one model, within one plan. Batch size 1."""

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        policy: Policy,
        patch: Sequence[int] = (),
        ledger: Ledger | None = None,
        geometry: Geometry | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Allocate the working set and switch `model` to this library's attention.

        Args:
            model: a transformers causal LM in evaluation mode.
            plan: from `memory.budget.plan`.
            policy: what stays when the working set is full.
            patch: token ids of `policy.patch` (longer ones are cut to `plan.patch`).
            ledger: asked before allocating; default: one with the plan's budget and the weights reserved.
            geometry: default: from the model's configuration.
            dtype: of the keys and values; default: that of the model's embeddings.

        Raises:
            UnsupportedModel: the model's attention is not standard.
            BudgetExceeded: the ledger refuses the plan.
        """
        config: Any = model.config
        self.geometry = geometry or Geometry.from_config(config.to_dict())
        self.plan = plan
        self.ledger = ledger or _ledger(plan)
        register()
        model.set_attn_implementation(NAME)  # type: ignore[operator]
        first = model.get_input_embeddings().weight  # type: ignore[operator]
        ropes = layer_ropes(model, [SLIDING if layer.window else FULL for layer in self.geometry.layers])
        cache = WorkingSet(self.geometry, plan, ropes, dtype or first.dtype, first.device, self.ledger)
        self.reader = Reader(model, cache, self.geometry.window, policy, patch, self.ledger)
        self.tokens: list[int] = []
        self.protect(0)

    @property
    def working_set(self) -> WorkingSet:
        return self.reader.working_set

    @property
    def resident(self) -> int:
        """Entries per head on the device, in the layer that holds most."""
        return self.working_set.length

    @property
    def complete(self) -> bool:
        """Whether nothing was evicted, so that results equal full attention."""
        return self.working_set.complete

    def protect(self, prefix: int) -> None:
        """Always keep the first `prefix` tokens (the system prompt), the sinks and the recent window."""
        keep = self.working_set.working_set_size(reindexed=True)
        self.reader.protection = Protection(prefix=prefix, recent=min(RECENT, keep // 4))

    def resume(self, ids: Sequence[int]) -> Resumed:
        """Keep the longest prefix of `ids` that was read before, token by token; forget the rest.

        At least one token of `ids` is left to read, because its logits start the reply.
        """
        known, common = len(self.tokens), _common(self.tokens, ids)
        common = min(common, len(ids) - 1)
        if common == known:
            return Resumed(common, None)
        if known and self.working_set.can_drop(known - common):
            self.working_set.drop_last(known - common)
            del self.tokens[common:]
            return Resumed(common, None)
        self.clear()
        return Resumed(0, _broken(common, known) if known else None)

    def read(self, ids: Sequence[int], progress: Progress | None = None) -> Tensor:
        """Read new tokens; the logits [vocabulary] after the last one. See `Reader.read` for what it raises."""
        start = self.working_set.seen
        try:
            return self.reader.read(ids, progress)
        finally:
            self.tokens += ids[: self.working_set.seen - start]

    def step(self, token: int) -> Tensor:
        """Read one token of the reply; the logits [vocabulary] after it."""
        logits = self.reader.step(token)
        self.tokens.append(token)
        return logits

    def clear(self) -> None:
        """Forget every token; nothing is freed."""
        self.tokens.clear()
        self.working_set.clear()


def make_policy(name: str) -> Policy:
    """The policy called `name` with its default knobs.

    Raises:
        KeyError: no such policy; `POLICIES` holds the names.
    """
    return POLICIES[name]()


def _ledger(plan: Plan) -> Ledger:
    ledger = Ledger(plan.budget)
    ledger.reserve("weights", plan.weights)
    ledger.reserve("staging", plan.staging)
    return ledger


def _common(known: Sequence[int], ids: Sequence[int]) -> int:
    pairs = zip(known, ids, strict=False)
    return next((index for index, (old, new) in enumerate(pairs) if old != new), min(len(known), len(ids)))


def _broken(common: int, known: int) -> str:
    return (
        f"token {common} of {known} differs from what was read, and it lies before what eviction kept whole, "
        "so the conversation was read again"
    )
