"""The working set: the one file that implements transformers' cache-layer API.

Every layer's keys and values live in an arena that is allocated once. Three numbers are kept apart: the stored length
(entries in the arena), the true length (tokens ever read) and, per entry, the position in the conversation it came
from. Inside the trained window keys keep the rotation the model gave them. Past it (`reindex`) the layer also holds
each key as it was first computed, and the keys in place are rotated from that copy, in fp32, to contiguous positions
that end where the next token stands, whatever the layer's own length is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from memory.budget import HOME_COPY, Ledger, Plan, sliding_capacity, span
from memory.errors import BudgetExceeded
from memory.geometry import Geometry, LayerGeometry
from memory.rope import Rope
from memory.tier.gpu import LayerPool, pages_for


@dataclass(frozen=True, slots=True)
class LayerState:
    """Which entries of a layer are resident, without their numbers; both [KV heads, entries] int32.

    `origins`: position in the conversation, ascending per head. `homes`: position at which the key was first rotated.
    """

    origins: Tensor
    homes: Tensor


@dataclass(frozen=True, slots=True)
class WorkingSetState:
    """What besides keys and values makes a working set: with them, `prepare` and `settle` put it back bit by bit."""

    seen: int
    next_position: int
    reindexed: bool
    layers: tuple[LayerState, ...]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a working set takes: entries per head of the layer that holds most and of the one that holds least, bytes.

    Layers with a sliding window do not count for the entries where there are others.
    """

    entries: int
    least: int
    bytes: int


DISPLACED = 8
"""A re-indexed layer is re-indexed again when this part of its entries is not the same any more."""


class WorkingSetLayer(CacheLayerMixin):
    """KV of one layer, batch size 1. Entries are in the order they were read, per KV head.

    `length` entries are stored, `seen` tokens were read, and the last `run` entries are consecutive in every head.
    """

    is_compileable = False
    is_croppable = False
    length: int
    seen: int
    run: int
    exchanged: bool
    """Whether recall put tokens in the places of others, so that origins no longer ascend."""

    def __init__(self, pool: LayerPool, rope: Rope) -> None:
        """An empty layer at the front of `pool`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.shape = pool.shape
        self.pool = pool
        self.rope = rope
        self.is_sliding = self.shape.window is not None
        self.span = None if self.shape.window is None else span(self.shape.window)
        self.is_initialized = True
        self.reset()

    # --- transformers' side ----------------------------------------------------------------------------------------

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the arena is allocated at construction."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append [1, KV heads, tokens, size] and return all keys and values, as views.

        Raises:
            BudgetExceeded: the arena is full; callers make room first.
        """
        end = self.length + key_states.shape[2]
        if end > self.capacity:
            raise BudgetExceeded(f"A layer's working set holds {self.capacity} entries, and {end} were asked for.")
        tokens = key_states.shape[2]
        self._keys.narrow(2, self.length, tokens).copy_(key_states)
        self._values.narrow(2, self.length, tokens).copy_(value_states)
        if self._homes is not None:
            self._homes.narrow(2, self.length, tokens).copy_(key_states)
        self.seen += tokens
        self.run += tokens
        self.length = end
        return self._keys.narrow(2, 0, end), self._values.narrow(2, 0, end)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Entries the next query sees, and their offset (always 0: the order of entries is what masks)."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Position of the next token as the layer stores it; `WorkingSet.next_position` is what counts."""
        return self.length

    def get_max_length(self) -> int:
        """Entries the arena can hold."""
        return self.capacity

    def reset(self) -> None:
        """Let every entry go and return to positions as read."""
        self.length = self.seen = self.run = self._home_end = 0
        self.exchanged = False
        self._kept_origins = torch.empty((self.shape.kv_heads, 0), dtype=torch.int32, device=self.device)
        self._kept_homes: Tensor | None = None
        self._anchors, self._anchored_at, self._displaced = self._kept_origins.to(torch.int64), 0, 0
        self._lay_out(copies=2)

    # --- our side --------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the arena lies."""
        return self.pool.arena.device

    @property
    def entry_bytes(self) -> int:
        """Bytes of one key and value over all heads."""
        return self.shape.bytes_per_entry(self.pool.arena.itemsize)

    @property
    def reindexed(self) -> bool:
        """Whether keys are in place at contiguous positions rather than at those they were read at."""
        return self._homes is not None

    @property
    def stored(self) -> tuple[Tensor, Tensor]:
        """Keys and values in place, [KV heads, entries, size] each, as views."""
        return self._keys[0, :, : self.length], self._values[0, :, : self.length]

    @property
    def as_computed(self) -> tuple[Tensor, Tensor]:
        """Keys as they were first computed, and values, [KV heads, entries, size] each, as views."""
        keys = self._keys if self._homes is None else self._homes
        return keys[0, :, : self.length], self._values[0, :, : self.length]

    def newest(self, first: int, count: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Keys as computed, values and positions [count] of the tokens from `first` on; None where not all are here."""
        at = self.length - (self.seen - first)
        if self.seen - first > self.run or at < 0:
            return None
        keys, values = self.as_computed
        return keys[:, at : at + count], values[:, at : at + count], self.homes()[0, at : at + count]

    def origins(self) -> Tensor:
        """Position in the conversation of every entry, [KV heads, entries] int32, ascending per head."""
        return self._with_tail(self._kept_origins, self.seen)

    @property
    def complete(self) -> bool:
        """Whether nothing was evicted."""
        return self.length == self.seen

    def keep(self, index: Tensor) -> None:
        """Keep the entries `index` [KV heads, kept] int64, ascending per head; the rest leave."""
        origins = self.origins().gather(1, index)
        if self._kept_homes is not None:
            self._kept_homes, self._home_end = self.homes().gather(1, index), self._home_end + self._tail
        self.run = min(self.run, _trailing(index, self.length))
        for store in (self._keys, self._values, self._homes):
            if store is not None:
                store[0, :, : index.shape[1]] = _take(store[0], index)
        self._kept_origins = origins
        self.length = index.shape[1]

    def exchange(self, places: Tensor, origins: Tensor, homes: Tensor, keys: Tensor, values: Tensor) -> None:
        """Entries before the run leave and others come; afterwards origins no longer ascend.

        `places` [2, n]: head and entry. `origins`, `homes` [n]: the tokens that come, and where their keys were first
        rotated; all int64. `keys` as they were first computed, `values` [n, size]. In a re-indexed layer a key goes to
        the position of the entry before it, as the entries stood when they were re-indexed: the order is kept. When
        many came since, the layer is re-indexed.
        """
        heads, entries = places.unbind()
        self.exchanged = True
        self._kept_origins[heads, entries] = origins.to(torch.int32)
        self._values[0, heads, entries] = values.to(self._values.dtype)
        if self._homes is not None:
            assert self._kept_homes is not None
            self._kept_homes[heads, entries] = homes.to(torch.int32)
            self._homes[0, heads, entries] = keys.to(self._homes.dtype)
            self._displaced += origins.numel()
            if self._displaced * DISPLACED > self._kept_origins.numel():
                self.reindex(self._home_end + self._tail)
                return
            keys = self.rope.rotate(keys, self.position_of(heads, origins) - homes)
        self._keys[0, heads, entries] = keys.to(self._keys.dtype)

    def shorten_run(self, tokens: int) -> None:
        """Let what lies before the last `tokens` be exchanged: write its positions down, in tensors of its own."""
        self.run = min(self.run, tokens)
        if self.exchanged and self._kept_origins.shape[1] >= self.length - tokens:
            return
        if self._kept_homes is not None:
            self._kept_homes, self._home_end = self.homes().clone(), self._home_end + self._tail
        self._kept_origins = self.origins().clone()

    def sort(self) -> bool:
        """Put the entries into the order of the conversation again; whether there was anything to do."""
        if not self.exchanged:
            return False
        self.exchanged = False
        self.keep(self.origins().argsort(dim=1))
        self.run = _trailing(self.origins(), self.seen)
        return True

    def position_of(self, heads: Tensor, origins: Tensor) -> Tensor:
        """Where tokens of the conversation belong among the entries as they were re-indexed, [n]."""
        count = self._anchors.shape[1]
        stride = self.seen + 1
        lines = (self._anchors + stride * torch.arange(self._anchors.shape[0], device=self.device)[:, None]).flatten()
        at = torch.searchsorted(lines, origins.to(torch.int64) + stride * heads, right=True) - heads * count
        return self._anchored_at + (at - 1).clamp_min(0)

    def drop_last(self, count: int) -> None:
        """Take back the last `count` entries, which must be consecutive tokens."""
        self._home_end -= max(0, count - self._tail)
        self.length -= count
        self.seen -= count
        self.run -= count
        self._kept_origins = self._kept_origins[:, : self.length]
        if self._kept_homes is not None:
            self._kept_homes = self._kept_homes[:, : self.length]

    def trim(self, room: int) -> None:
        """Sliding layers: when `room` more entries do not fit, keep just the window."""
        if self.length + room > self.reindexed_capacity():
            self.keep_window()

    def keep_window(self) -> None:
        """Sliding layers: let everything before the window leave."""
        if self.span is not None and self.length > self.span:
            last = torch.arange(self.length - self.span, self.length, device=self.device)
            self.keep(last.expand(self.shape.kv_heads, -1))

    def can_wait(self, without: Collection[str], entries: int, copies: int, enters: int) -> bool:
        """Whether the entries fit in pages, those of `without` gone, beside `entries` in so many `copies`; beside half
        of what the layer can hold where that is unknown (0) or more than all of it. Never beside less than the
        `enters` numbers of the set that becomes the active one."""
        if self.span is None:
            size, all_of_it = self.shape.kv_heads * self.shape.head_dim, self.pool.arena.numel()
            front = copies * size * entries
            known = 0 < front <= all_of_it
            least = max(enters, front if known else all_of_it // size // 4 * 2 * size)
            return self.pool.takes(self.length, least, without)
        return self.pool.takes(min(self.length, self.span), self.pool.front.numel(), without)

    def reindex(self, next_position: int) -> None:
        """Rotate every key from where it was first computed to contiguous positions ending before `next_position`."""
        if self._homes is None:
            self._begin_reindexing()
        assert self._homes is not None
        homes = self.homes()
        self._kept_origins, self._kept_homes = self.origins(), homes
        self._anchors, order = self._kept_origins.to(torch.int64).sort(dim=1, stable=True)
        self._home_end, self._anchored_at, self._displaced = next_position, next_position - self.length, 0
        target = self._anchored_at + order.argsort(dim=1)
        for head in range(self.shape.kv_heads):
            source = self._homes[0, head, : self.length]
            self._keys[0, head, : self.length] = self.rope.rotate(source, target[head] - homes[head])

    def reindexed_capacity(self) -> int:
        """Entries the arena holds once the keys are kept twice."""
        return self.pool.front.numel() // (HOME_COPY * self.shape.kv_heads * self.shape.head_dim)

    def state(self) -> LayerState:
        """What is resident."""
        return LayerState(self.origins(), self.homes())

    def load(self, state: LayerState, seen: int, *, reindexed: bool) -> None:
        """Take on `state`; the caller fills `as_computed`, then lets a re-indexed layer `reindex`."""
        self.reset()
        if reindexed:
            self._lay_out(HOME_COPY)
            self._kept_homes = state.homes
        self._kept_origins = state.origins
        self.length, self.seen = state.origins.shape[1], seen
        self.run = _trailing(state.origins, seen)

    def refit(self) -> None:
        """Use all of a front that grew."""
        if self.pool.front.numel() == self._front.numel():
            return
        saved = [part.clone() for part in self.as_computed]
        self._lay_out(HOME_COPY if self.reindexed else 2)
        for store, part in zip(self.as_computed, saved, strict=True):
            store.copy_(part)
        if self.reindexed:
            self.reindex(self._home_end + self._tail)

    def homes(self) -> Tensor:
        """Position at which each key was first rotated, [KV heads, entries] int32."""
        if self._kept_homes is None:
            return self.origins()
        return self._with_tail(self._kept_homes, self._home_end + self._tail)

    def _begin_reindexing(self) -> None:
        """Lay the arena out anew; until here the keys in place are the keys as first computed."""
        keys, values = (part.clone() for part in self.stored)
        self._kept_homes = self._kept_origins = self.origins()
        self._lay_out(copies=HOME_COPY)
        assert self._homes is not None
        self._homes[0, :, : self.length] = keys
        self._values[0, :, : self.length] = values
        self._home_end = self.seen

    def _lay_out(self, copies: int) -> None:
        shape, self._front = self.shape, self.pool.front
        self.capacity = self._front.numel() // (copies * shape.kv_heads * shape.head_dim)
        used = self._front[: copies * shape.kv_heads * self.capacity * shape.head_dim]
        parts = used.view(copies, 1, shape.kv_heads, self.capacity, shape.head_dim)
        self._keys, self._values = parts[0], parts[1]
        self._homes: Tensor | None = parts[2] if copies == HOME_COPY else None

    @property
    def _tail(self) -> int:
        """Entries appended since positions were last written down; theirs follow from their order."""
        return self.length - self._kept_origins.shape[1]

    def _with_tail(self, kept: Tensor, end: int) -> Tensor:
        tail = torch.arange(end - self._tail, end, dtype=torch.int32, device=kept.device)
        return torch.cat((kept, tail.expand(self.shape.kv_heads, -1)), dim=1)


class WorkingSet(Cache):
    """The KV resident for decoding, over all layers, at most what `plan` gives it."""

    layers: list[WorkingSetLayer]  # type: ignore[assignment]

    def __init__(
        self,
        geometry: Geometry,
        plan: Plan,
        ropes: Sequence[Rope],
        dtype: torch.dtype,
        device: torch.device,
        ledger: Ledger,
    ) -> None:
        """Reserve the plan's KV bytes in `ledger`, then allocate every layer.

        Raises:
            BudgetExceeded: the ledger refuses the KV bytes.
        """
        ledger.reserve("kv", plan.kv)
        pools = [_pool(*shaped, plan, dtype, device) for shaped in _with_capacity(geometry, plan)]
        super().__init__(layers=[WorkingSetLayer(pool, rope) for pool, rope in zip(pools, ropes, strict=True)])
        self.plan = plan
        self.position_shift = 0
        self.waiting: dict[str, WorkingSetState] = {}
        self.pins: Sequence[str] = ()

    @property
    def bounded(self) -> list[WorkingSetLayer]:
        """Layers whose entries a policy chooses (those without a sliding window)."""
        return [layer for layer in self.layers if not layer.is_sliding]

    @property
    def seen(self) -> int:
        """True length: tokens read so far."""
        return self.layers[0].seen

    @property
    def length(self) -> int:
        """Stored length: the most entries any layer holds."""
        return max(layer.length for layer in (self.bounded or self.layers))

    @property
    def mean_length(self) -> int:
        """Entries a layer holds on the mean, rounded up: what compares with `Plan.capacity`."""
        lengths = [layer.length for layer in (self.bounded or self.layers)]
        return -(-sum(lengths) // len(lengths))

    @property
    def next_position(self) -> int:
        """Rotary position of the next token."""
        return self.seen - self.position_shift

    @property
    def reindexed(self) -> bool:
        """Whether every layer is re-indexed (see `WorkingSetLayer.reindexed`)."""
        return self.layers[0].reindexed

    @property
    def complete(self) -> bool:
        """Whether every token read is still resident in every layer that attends to everything."""
        return all(layer.complete for layer in self.bounded)

    @property
    def room(self) -> int:
        """Tokens that can be appended before an eviction, the patch's room left out."""
        return (
            min((layer.capacity - layer.length for layer in self.bounded), default=self.plan.block + self.plan.patch)
            - self.plan.patch
        )

    def working_set_sizes(self, *, reindexed: bool) -> list[int]:
        """Entries per head to keep in each bounded layer, so that one block and the patch fit beside them."""
        return [capacity - self.plan.block - self.plan.patch for capacity in self._capacities(reindexed=reindexed)]

    def working_set_size(self, *, reindexed: bool) -> int:
        """Of `working_set_sizes` the least: what every layer has room for."""
        return min(self.working_set_sizes(reindexed=reindexed), default=self.plan.working_set)

    def trim(self, room: int) -> None:
        """Make room for `room` tokens in the sliding layers."""
        for layer in self.layers:
            layer.trim(room)

    def reindex(self) -> None:
        """Re-index every layer, once after an eviction past the trained window."""
        self._reindex_to(max(layer.length for layer in self.layers))

    def _reindex_to(self, end: int) -> None:
        for layer in self.layers:
            layer.reindex(end)
        self.position_shift = self.seen - end

    def can_drop(self, count: int) -> bool:
        """Whether the last `count` tokens can be taken back as if they had not been read."""
        return all(
            count <= layer.run and (layer.complete or not layer.is_sliding or layer.length - count >= _needed(layer))
            for layer in self.layers
        )

    @property
    def run(self) -> int:
        """The last tokens that are resident in every head of every layer that attends to everything."""
        return min((layer.run for layer in self.bounded), default=self.seen)

    def shorten_run(self, tokens: int) -> None:
        """Only the last `tokens` are sure to stay: what lies before them may be exchanged."""
        for layer in self.bounded:
            layer.shorten_run(tokens)

    def sort(self) -> None:
        """Put what recall exchanged in order: the state at the end of a turn does not depend on how it came about."""
        changed = [layer.sort() for layer in self.bounded]
        if self.reindexed and any(changed):
            self._reindex_to(self.next_position)

    def drop_last(self, count: int) -> None:
        """Take back the last `count` tokens (see `can_drop`)."""
        for layer in self.layers:
            layer.drop_last(count)

    def clear(self) -> None:
        """Let every entry of the active working set go; the arenas stay."""
        self.position_shift = 0
        for layer in self.layers:
            layer.reset()

    # --- several working sets ----------------------------------------------------------------------------------------

    def state(self) -> WorkingSetState:
        """What is resident of the active working set."""
        layers = tuple(layer.state() for layer in self.layers)
        return WorkingSetState(self.seen, self.next_position, self.reindexed, layers)

    def prepare(self, state: WorkingSetState) -> None:
        """Become what `state` describes; the caller writes each layer's `as_computed`, then calls `settle`."""
        for layer, part in zip(self.layers, state.layers, strict=True):
            layer.load(part, state.seen, reindexed=state.reindexed)
        self.position_shift = state.seen - state.next_position

    def settle(self, state: WorkingSetState) -> None:
        """The numbers are there: put re-indexed keys in their places."""
        if state.reindexed:
            for layer in self.layers:
                layer.reindex(state.next_position)

    def longest(self, *, reindexed: bool) -> list[int]:
        """Entries per head that can be resident in each bounded layer, room for the patch left out."""
        return [capacity - self.plan.patch for capacity in self._capacities(reindexed=reindexed)]

    def _capacities(self, *, reindexed: bool) -> list[int]:
        return [layer.reindexed_capacity() if reindexed else layer.capacity for layer in self.bounded]

    def footprint(self, waiting: str | None = None) -> Footprint:
        """What a waiting working set takes, or the active one."""
        if waiting is None:
            copies = HOME_COPY if self.reindexed else 2
            held = [(layer.length, layer.length * copies * layer.entry_bytes // 2, layer) for layer in self.layers]
        else:
            pages = [(layer.pool.table[waiting].entries, layer) for layer in self.layers]
            held = [(entries, entries * layer.entry_bytes, layer) for entries, layer in pages]
        counts = [entries for entries, _, layer in held if not layer.is_sliding] or [entries for entries, _, _ in held]
        return Footprint(max(counts), min(counts), sum(size for _, size, _ in held))

    def leaving(self, active: str | None = None) -> list[str]:
        """Who is let go of first when room is needed: the longest waiting, then `pins` from their end.

        `active`: the name under which the active working set would wait; it counts as the latest of them.
        """
        held = [*self.waiting] if active is None else [*self.waiting, active]
        unpinned = [name for name in held if name not in self.pins]
        return unpinned + [name for name in reversed(self.pins) if name in held]

    def can_wait(self, enters: str, without: Collection[str], tokens: int, window: int) -> bool:
        """Whether the active working set can wait once those of `without` are gone, beside `enters`, which will be of
        `tokens` (0: of an unknown number), more than the trained `window` or not, and may be waiting itself."""
        entries, copies = tokens and tokens + self.plan.block + self.plan.patch, HOME_COPY if tokens > window else 2
        gone = {enters, *without}
        return all(layer.can_wait(gone, entries, copies, self._front_of(enters, layer)) for layer in self.layers)

    def switch(self, leave_as: str | None, enter: str | None) -> None:
        """Let the active working set wait as `leave_as` (None: drop it), and make `enter` (None: an empty one) active.

        Copies one layer at a time, so that the staging area of the plan holds what is on its way.
        """
        left = self._trimmed_state() if leave_as is not None else None
        entered = self.waiting.pop(enter) if enter is not None else None
        for index, layer in enumerate(self.layers):
            leaving = [part.clone() for part in layer.as_computed] if leave_as is not None else []
            coming = layer.pool.take(enter) if enter is not None else None
            if leave_as is not None:
                layer.pool.put(leave_as, *leaving)
            layer.reset()
            if coming is not None and entered is not None:
                _enter(layer, entered, index, coming)
        if leave_as is not None and left is not None:
            self.waiting[leave_as] = left
        self.position_shift = entered.seen - entered.next_position if entered else 0

    def drop_waiting(self, name: str) -> None:
        """Free what a waiting working set takes; the active one may use it at once."""
        del self.waiting[name]
        for layer in self.layers:
            layer.pool.drop(name)
            layer.refit()

    def can_enter(self, waiting: str) -> bool:
        """Whether a waiting working set fits where the active one is, were that gone."""
        return all(layer.pool.takes(0, self._front_of(waiting, layer), {waiting}) for layer in self.bounded)

    def _front_of(self, waiting: str, layer: WorkingSetLayer) -> int:
        """Numbers that a waiting working set takes in a layer once it is the active one; 0 if it does not wait."""
        if waiting not in self.waiting:
            return 0
        copies = HOME_COPY if self.waiting[waiting].reindexed else 2
        return copies * layer.shape.kv_heads * layer.shape.head_dim * layer.pool.table[waiting].entries

    def _trimmed_state(self) -> WorkingSetState:
        """The state to wait in: sliding layers keep just their window."""
        for layer in self.layers:
            layer.keep_window()
        return self.state()


def _with_capacity(geometry: Geometry, plan: Plan) -> list[tuple[LayerGeometry, int]]:
    """Each layer with the entries that the plan gives it; sliding ones hold what their window asks for."""
    chosen = iter(plan.capacities or [plan.capacity] * len(geometry.full_layers))
    return [(shape, next(chosen) if shape.window is None else 0) for shape in geometry.layers]


def _pool(shape: LayerGeometry, capacity: int, plan: Plan, dtype: torch.dtype, device: torch.device) -> LayerPool:
    """Layers that attend to everything share their arena; a sliding one has a fixed front, and pages to wait in."""
    size = shape.kv_heads * shape.head_dim
    if shape.window is None:
        return LayerPool(shape, 2 * size * capacity, 0, dtype, device, shared=True)
    front = HOME_COPY * size * sliding_capacity(shape.window, plan.block, plan.patch)
    return LayerPool(shape, front, plan.waiting * pages_for(span(shape.window)), dtype, device, shared=False)


def _enter(layer: WorkingSetLayer, state: WorkingSetState, index: int, numbers: tuple[Tensor, Tensor]) -> None:
    layer.load(state.layers[index], state.seen, reindexed=state.reindexed)
    for store, part in zip(layer.as_computed, numbers, strict=True):
        store.copy_(part)
    if state.reindexed:
        layer.reindex(state.next_position)


def _needed(layer: WorkingSetLayer) -> int:
    return (layer.shape.window or 1) - 1


def _trailing(index: Tensor, length: int) -> int:
    """How many of the last kept entries are the last entries of all, in every head."""
    same = index == torch.arange(length - index.shape[1], length, device=index.device)
    return int(same.all(0).flip(0).to(torch.int32).cumprod(0).sum())


def _take(store: Tensor, index: Tensor) -> Tensor:
    """`store` [heads, entries, size] at `index` [heads, kept]."""
    return store.gather(1, index.to(torch.int64)[..., None].expand(-1, -1, store.shape[-1]))
