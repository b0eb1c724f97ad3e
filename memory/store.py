"""The front door: conversations' memory for one model. Open one, resume what is known, read what is new, step, seal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from memory.attention import NAME, register
from memory.block import CHUNK, common
from memory.budget import Ledger, Plan
from memory.cache import WorkingSet
from memory.chunkfile import RowHeader
from memory.errors import DamagedFile, RowDamaged
from memory.focus import Focus
from memory.geometry import FULL, SLIDING, Geometry
from memory.policy import POLICIES, Policy, Protection
from memory.prefill import Progress, Reader
from memory.recall import Recalled
from memory.restore import Available, Snapshot, choose, open_row, open_tail, put_back, unpack_state
from memory.rope import layer_ropes
from memory.sealing import Sealer, Served, Trail, Wanted
from memory.spill import Spill, Stored
from memory.tailfile import Tail
from memory.tier.disk import Found

RECENT = 256
"""Tokens of the recent window that always stay, at most a quarter of the working set and half of a layer's."""

Mode = Literal["auto", "exact", "bounded"]
Source = Literal["resident", "disk", "none"]
T = TypeVar("T")
CallToken = Callable[[Sequence[int], int], str]


@dataclass(frozen=True, slots=True)
class Resumed:
    """What `Memory.resume` found: `reused` tokens need no reading, from `source`; `reason` says why the others that
    were read before must be read again."""

    reused: int
    reason: str | None
    source: Source = "resident"


class Memory:
    """KV of conversations with one model, within one plan. Batch size 1; one conversation is active at a time."""

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        policy: Policy,
        patch: Sequence[int] = (),
        ledger: Ledger | None = None,
        geometry: Geometry | None = None,
        dtype: torch.dtype | None = None,
        spill: Spill | None = None,
        mode: Mode = "auto",
        ends: frozenset[int] = frozenset(),
    ) -> None:
        """Allocate the pool and switch `model` to this library's attention.

        Args:
            model: a transformers causal LM in evaluation mode.
            plan: from `memory.budget.plan`.
            policy: what stays when the working set is full.
            patch: token ids of `policy.patch` (longer ones are cut to `plan.patch`).
            ledger: asked before allocating; default: one with the plan's budget and the weights reserved.
            geometry: default: from the model's configuration.
            dtype: of the keys and values; default: that of the model's embeddings.
            spill: where sealed chunks go; None: what leaves the working set is read again when needed.
            mode: "exact" attends to every stored token, "bounded" to the working set, "auto" is exact inside the
                trained window while its measured cost is bearable. A policy that recalls does so for the reply's
                tokens, unless the mode is "exact".
            ends: token ids that end a sentence, for a policy that chooses those (none: every 16 tokens are one).

        Raises:
            UnsupportedModel: the model's attention is not standard.
            BudgetExceeded: the ledger refuses the plan.
        """
        config: Any = model.config
        self.geometry = geometry or Geometry.from_config(config.to_dict())
        self.plan = plan
        self.ledger = ledger or _ledger(plan)
        self.mode: Mode = mode
        self.spill = spill
        register()
        model.set_attn_implementation(NAME)  # type: ignore[operator]
        first = model.get_input_embeddings().weight  # type: ignore[operator]
        ropes = layer_ropes(model, [SLIDING if layer.window else FULL for layer in self.geometry.layers])
        cache = WorkingSet(self.geometry, plan, ropes, dtype or first.dtype, first.device, self.ledger)
        self.sealer = Sealer(cache, spill, policy, ends)
        self.reader = Reader(model, cache, self.geometry.window, policy, patch, self.ledger, self.sealer)
        fills = spill is not None and policy.base != "latest"
        self._focus = Focus(spill, self.geometry, self.reader, self.sealer) if spill and fills else None
        self._waiting: dict[str, Trail] = {}
        self._forgotten: set[str] = set()
        self._origins: tuple[str, ...] = ()
        self._share = False
        self.call_token: CallToken = _by_number
        """How a token is called in a reason: whoever has the tokenizer can quote its word."""
        self.protect(0)

    # --- what it holds -----------------------------------------------------------------------------------------------

    @property
    def working_set(self) -> WorkingSet:
        """The KV on the device: of the active conversation, and of those that wait in the pool."""
        return self.reader.working_set

    @property
    def pins(self) -> Sequence[str]:
        """Conversations whose working sets stay on the device while others can go, the one to let go of last first."""
        return self.working_set.pins

    @pins.setter
    def pins(self, names: Sequence[str]) -> None:
        self.working_set.pins = tuple(names)

    @property
    def tokens(self) -> list[int]:
        """Every token of the active conversation that was read."""
        return self.sealer.trail.tokens

    @property
    def resident(self) -> int:
        """Entries per head of the active conversation on the device, a mean over the layers that share the budget."""
        return self.working_set.mean_length

    @property
    def stored(self) -> int:
        """Tokens of the active conversation that are sealed on disk."""
        return self.sealer.trail.stored.tokens

    @property
    def complete(self) -> bool:
        """Whether nothing was evicted."""
        return self.working_set.complete

    @property
    def evictions(self) -> int:
        """Times that entries left a working set to make room, since this was made."""
        return self.reader.evictions

    @property
    def exact(self) -> bool:
        """Whether every token of the active conversation was read with attention to all tokens before it."""
        return self.sealer.trail.exact

    @property
    def served(self) -> Served:
        """What the tokens read since `resume` attended to, the least of it."""
        return self.sealer.served

    def recalled(self) -> Recalled | None:
        """What was recalled since `resume`; None when there was no need to."""
        recaller = self.sealer.trail.recaller
        return recaller.told() if recaller is not None and recaller.steps else None

    def sets(self) -> dict[str, Trail]:
        """The resident conversations, the active one last."""
        trail = self.sealer.trail
        waiting = {name: self._waiting[name] for name in self.working_set.waiting}
        return waiting | ({trail.conversation: trail} if trail.tokens else {})

    # --- conversations -----------------------------------------------------------------------------------------------

    def open(self, conversation: str, origins: Sequence[str] = (), tokens: int = 0, *, share: bool = False) -> None:
        """Make `conversation` the active one. The one before waits in the pool while there is room for both.

        Args:
            conversation: its name.
            origins: the conversations that it was forked from, the nearest first; what is stored of them is used.
            tokens: how long the text is that will be read; 0: unknown, then half of the pool is left to it.
            share: whether what is stored of any other conversation is used, as far as its text is the same.
        """
        self._drop_forgotten()
        self._origins, self._share = tuple(origins), share
        trail = self.sealer.trail
        if trail.conversation == conversation:
            return
        cache, name = self.working_set, trail.conversation
        leaves = bool(trail.tokens) and self._can_wait(conversation, tokens)
        enters = conversation in cache.waiting
        if enters and not leaves:
            self._let_enter(conversation)
        cache.switch(name if leaves else None, conversation if enters else None)
        if leaves:
            trail.recaller = None
            self._waiting[name] = trail
        self.sealer.trail = self._waiting.pop(conversation) if enters else _new(conversation)
        self._waiting = {kept: self._waiting[kept] for kept in cache.waiting}
        if self.spill is not None:
            self.spill.disk.in_use = {conversation, *cache.waiting}

    def forget(self, conversation: str) -> None:
        """Drop a conversation from the device and remove everything stored of it.

        Raises:
            OSError: something of it could not be removed.
        """
        self.forget_later(conversation)
        self._drop_forgotten()
        if self.spill is not None:
            self.spill.forget(conversation)

    def forget_later(self, conversation: str) -> None:
        """Drop a conversation from the device when the next one is opened; may be called from another thread."""
        self._forgotten.add(conversation)

    def clear(self) -> None:
        """Empty the active working set; what is stored stays."""
        self.working_set.clear()
        self.sealer.trail = _new(self.sealer.trail.conversation)

    def protect(self, prefix: int) -> None:
        """Always keep the first `prefix` tokens (the system prompt), the sinks and the recent window."""
        self.sealer.first = max(prefix, Protection().sinks)
        self.sealer.recent = _recent(self.working_set, self.sealer.first)
        self.reader.protection = Protection(prefix=prefix, recent=self.sealer.recent)

    def admit(self, tokens: int) -> None:
        """Refuse a text of so many tokens before any of it is read. See `Reader.admit` for what it raises."""
        self.reader.admit(tokens)

    # --- one request -------------------------------------------------------------------------------------------------

    def resume(self, ids: Sequence[int]) -> Resumed:
        """Keep the longest prefix of `ids` that was read before, on the device or stored, token by token.

        Where the text parts from what is on the device, another line of it that was stored may go further. At least one
        token of `ids` is left to read, because its logits start the reply.
        """
        trail = self.sealer.trail
        known, same = len(trail.tokens), min(common(trail.tokens, ids), len(ids) - 1)
        parted = 0 < same < min(known, len(ids) - 1)
        found = self._find(ids) if parted and self.spill is not None else None
        more = found is not None and found.tokens > same
        kept = not more and (same == known or self.working_set.can_drop(known - same))
        if kept:
            self._take_back(known - same)
        self.sealer.start(self._wants(len(ids)))
        if same and kept and (self.sealer.reachable or not self.sealer.wanted.steps):
            return Resumed(same, None if found is None else self._absent(found, ids))
        return self._restore(ids) if self.spill is not None else self._start_over(ids, same, known, kept=kept)

    def focus(self, patch: Sequence[int]) -> int:
        """A turn begins: what `patch` attends to most of what is stored becomes resident; without one the latest.

        Only the difference to what is resident moves; the first and the recent tokens stay. Nothing happens while
        everything is resident, or every token attends to everything anyway. Without tiers, `patch` is what asks when
        room must be made.

        Args:
            patch: token ids; the first `memory.aside.PATCH` of them ask.

        Returns:
            Entries per head that came, a mean over the layers.
        """
        if self._focus is None:
            self.reader.patch = patch if self.reader.policy.base == "episode" else self.reader.patch
            return 0
        focus, whole, came = self._focus, list(self.tokens), [0]

        def turn() -> Tensor:
            came[0] = 0 if self.sealer.wanted.steps else focus.turn_to(patch)
            return torch.empty(0)

        self._repaired(turn, whole)
        return came[0]

    def ready(self, patch: Sequence[int]) -> bool:
        """Whether `focus` finds scores for `patch` and has at most those of new rows to make."""
        return self._focus is None or self._focus.scores.knows(self.sealer.trail.conversation, patch)

    def prepare(self, patch: Sequence[int], stop: Callable[[], bool] = lambda: False) -> bool:
        """Score now what `focus` will ask for; True when there is nothing left to do.

        `stop` is asked now and then; when it says so what was begun is given up.
        """
        try:
            return self._focus is None or self._focus.prepare(patch, stop)
        except RowDamaged:
            return True  # who needs the row has it read again

    def read(self, ids: Sequence[int], progress: Progress | None = None) -> Tensor:
        """Read new tokens; the logits [vocabulary] after the last one. See `Reader.read` for what it raises."""
        whole = self.tokens + list(ids)
        return self._repaired(lambda: self.reader.read(whole[len(self.tokens) :], progress), whole)

    def step(self, token: int) -> Tensor:
        """Read one token of the reply; the logits [vocabulary] after it. See `Reader.step` for what it raises."""
        whole = [*self.tokens, token]
        return self._repaired(lambda: self.reader.step(token), whole)

    def seal(self) -> None:
        """The end of a turn: the open chunk and what is resident are stored too."""
        self.sealer.finish()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _drop_forgotten(self) -> None:
        while self._forgotten:
            conversation = self._forgotten.pop()
            if conversation in self.working_set.waiting:
                self.working_set.drop_waiting(conversation)
            if self.sealer.trail.conversation == conversation:
                self.clear()

    def _can_wait(self, enters: str, tokens: int) -> bool:
        """Make room for the active working set to wait, by letting go of as few as needed of those before it."""
        cache, own = self.working_set, self.sealer.trail.conversation
        leaving = [name for name in cache.leaving(own) if name != enters]
        before = leaving[: leaving.index(own)]
        for count in range(len(before) + 1):
            if cache.can_wait(enters, before[:count], tokens, self.geometry.window):
                for name in before[:count]:
                    cache.drop_waiting(name)
                return True
        return False

    def _let_enter(self, conversation: str) -> None:
        """Let go of waiting working sets until there is room for this one: a re-indexed one takes more than it waits
        in."""
        cache = self.working_set
        for name in [name for name in cache.leaving() if name != conversation]:
            if cache.can_enter(conversation):
                return
            cache.drop_waiting(name)

    def _take_back(self, count: int) -> None:
        trail = self.sealer.trail
        if count:
            if self.spill is not None:
                self.spill.flush()
            self.working_set.drop_last(count)
            del trail.tokens[len(trail.tokens) - count :]
            trail.stored.cut(len(trail.tokens) // CHUNK)
            if trail.recaller is not None:
                trail.recaller.cut(trail.stored.rows)

    def _start_over(self, ids: Sequence[int], same: int, known: int, *, kept: bool) -> Resumed:
        if kept:
            return Resumed(same, None, "resident" if same else "none")
        self.clear()
        why = "differs from what was read, and it lies before what eviction kept whole"
        return Resumed(0, f"{self.call_token(ids, same)} {why}" if known else None, "none")

    def _wants(self, tokens: int) -> Wanted:
        """Which tokens of a request shall attend to everything, by mode, length and measured cost."""
        if self.spill is None or not self.spill.writing or self.mode == "bounded" or tokens > self.geometry.window:
            return Wanted()
        if self.mode == "exact":
            return Wanted(blocks=True, steps=True)
        if self.sealer.fills:
            return Wanted(blocks=self.sealer.bearable(single=False))
        bearable = self.sealer.trail.exact and self.sealer.bearable(single=True)
        return Wanted(blocks=bearable, steps=bearable)

    def _find(self, ids: Sequence[int]) -> Found:
        """What the tiers hold of `ids[:-1]`."""
        assert self.spill is not None
        return self.spill.find(self.sealer.trail.conversation, ids[:-1], self._origins, share=self._share)

    def _restore(self, ids: Sequence[int]) -> Resumed:
        """Put back what the tiers hold of `ids[:-1]`; damaged rows are put aside and the rows before them taken."""
        assert self.spill is not None
        self.clear()
        reason: str | None = None
        while True:
            trail, found = self.sealer.trail, self._find(ids)
            stored, available, snapshot = self._available(found)
            if not available.tokens:
                return Resumed(0, reason or self._absent(found, ids), "none")
            try:
                self._put_back(stored, available, snapshot, found)
            except RowDamaged as damage:
                self.spill.damaged(stored, damage)
                reason = f"what was stored from token {damage.row * CHUNK} on is damaged ({damage.why})"
                continue
            trail.tokens = list(ids[: available.tokens])
            return Resumed(available.tokens, reason or self._absent(found, ids), "disk")

    def _available(self, found: Found) -> tuple[Stored, Available, Snapshot | None]:
        assert self.spill is not None
        stored = Stored(self.sealer.trail.conversation, found.branch, found.rows, found.rows)
        positions = [place for header in self._headers(found)[: found.rows] for place in header.positions]
        tail, begun, opened = found.tail, found.begun, None
        if begun is not None and found.further and (opened := open_row(self.spill, found)) is not None:
            positions += begun.headers[found.rows].positions[: found.further]
        elif begun is None and tail is not None and found.further:
            opened = open_tail(self.spill, tail)
            positions += tail.positions[: found.further]
        # what was resident at a later moment need not hold the tokens that a row was cut at
        snapshot = self._snapshot(tail) if tail is not None and (begun is None or opened is None) else None
        return stored, Available(len(positions), torch.tensor(positions, dtype=torch.int32), opened), snapshot

    def _absent(self, found: Found, ids: Sequence[int]) -> str | None:
        """Why the tiers do not hold all of `ids`."""
        if found.foreign:
            return f"what is stored was made with another {', '.join(found.foreign)}"
        if found.differs is not None:
            return f"{self.call_token(ids, found.differs)} differs from what is stored"
        if found.branch is None:
            return "nothing is stored of this conversation"
        return "what is stored ends before: the rest was not written before the worker ended, or has given way"

    def _snapshot(self, tail: Tail) -> Snapshot | None:
        try:
            return unpack_state(tail.state, [layer.shape.kv_heads for layer in self.working_set.layers])
        except DamagedFile:
            return None

    def _put_back(self, stored: Stored, available: Available, snapshot: Snapshot | None, found: Found) -> None:
        assert self.spill is not None
        sealer, cache = self.sealer, self.working_set
        sealer.trail.stored = stored
        sealer.trail.exact = all(header.exact for header in self._headers(found)[: found.rows]) and (
            available.open is None or available.open.exact
        )
        sealer.wanted = self._wants(available.tokens + 1)
        self.reader.make_way(available.tokens)
        state = choose(cache, available, snapshot, sealer.first, self.geometry.window)
        put_back(self.spill, stored, cache, state, available, sealer.scratch)

    def _headers(self, found: Found) -> Sequence[RowHeader]:
        return found.branch.headers if found.branch is not None else []

    def _repaired(self, action: Callable[[], Tensor], whole: Sequence[int]) -> Tensor:
        """`action`; when a stored row that it needs is damaged, what can be restored is, and the rest is read.

        A second damage in the same request means that the disk cannot be trusted: then nothing stored is used.
        """
        for trust in (True, False):
            try:
                return action()
            except RowDamaged as damage:
                self._put_aside(damage, trust=trust)
            self.resume(whole)
            action = self._rest_of(whole)
        return action()

    def _put_aside(self, damage: RowDamaged, *, trust: bool) -> None:
        assert self.spill is not None
        self.spill.damaged(self.sealer.trail.stored, damage)
        if not trust:
            self.spill.distrust(damage)
        self.clear()

    def _rest_of(self, whole: Sequence[int]) -> Callable[[], Tensor]:
        return lambda: self.reader.read(whole[len(self.tokens) :])


def make_policy(name: str) -> Policy:
    """The policy called `name` with its default knobs.

    Raises:
        KeyError: no such policy; `POLICIES` holds the names.
    """
    return POLICIES[name]()


def _recent(cache: WorkingSet, first: int) -> int:
    """Tokens of the recent window: a quarter of what layers keep on the mean. Where they differ, it leaves room in the
    smallest one for the `first` tokens, and for the chunk that it begins in."""
    keeps = cache.working_set_sizes(reindexed=True) or [cache.working_set_size(reindexed=True)]
    recent, least = min(RECENT, sum(keeps) // len(keeps) // 4), min(keeps)
    if not cache.plan.capacities:
        return recent
    return min(recent, least // 2, max(least // 8, least - CHUNK - first))


def _by_number(_: Sequence[int], at: int) -> str:
    return f"token {at}"


def _new(conversation: str) -> Trail:
    return Trail(conversation, stored=Stored(conversation))


def _ledger(plan: Plan) -> Ledger:
    ledger = Ledger(plan.budget)
    ledger.reserve("weights", plan.weights)
    ledger.reserve("staging", plan.staging)
    return ledger
