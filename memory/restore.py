"""Which stored entries become resident again, and putting them there.

What was resident at the end of a turn is written beside the open chunk (`pack_state`), so that a resumed conversation
goes on bit by bit where it stopped. Where that does not apply (the file is gone, the budget is smaller, the text went
another way) the first tokens and the most recent ones are taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from memory.aside import ROW_GROUP
from memory.block import CHUNK
from memory.cache import LayerState, WorkingSet, WorkingSetLayer, WorkingSetState
from memory.codec import RowCodec, split
from memory.errors import DamagedFile, RowDamaged
from memory.spill import Scratch, Spill, Stored, pieces_of
from memory.tailfile import Tail
from memory.tier.disk import Found

_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was resident when `seen` tokens had been read: each layer's origins [KV heads, entries] int32, None: all."""

    seen: int
    next_position: int
    reindexed: bool
    origins: tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """The first tokens of a chunk: its encoded sections [bytes], one a layer, and whether they were read exactly."""

    codec: RowCodec
    sections: list[Tensor]
    exact: bool


@dataclass(frozen=True, slots=True)
class Available:
    """What can be put back: so many `tokens` of the conversation, the `positions` [tokens] int32 that their keys are
    rotated at, the open chunk."""

    tokens: int
    positions: Tensor
    open: OpenChunk | None

    @property
    def plain(self) -> bool:
        """Whether every key stands at its own place in the conversation."""
        return bool((self.positions == torch.arange(self.tokens, dtype=torch.int32)).all())


# --- the state beside the open chunk ---------------------------------------------------------------------------------


def pack_state(state: WorkingSetState, sliding: Sequence[bool]) -> bytes:
    """A JSON line, then a bit per token and head for every layer that lacks entries and differs from the one before."""
    kinds, masks, before = list[str](), list[bytes](), None
    for layer, slides in zip(state.layers, sliding, strict=True):
        origins = layer.origins
        if slides or origins.shape[1] == state.seen:
            kinds.append("all")
        elif before is not None and torch.equal(before, origins):
            kinds.append("same")
        else:
            kinds.append("mask")
            masks.append(_mask(origins, state.seen))
            before = origins
    head = {"seen": state.seen, "next_position": state.next_position, "reindexed": state.reindexed, "layers": kinds}
    return b"\n".join((json.dumps(head).encode(), b"".join(masks)))


def unpack_state(data: bytes, heads: Sequence[int]) -> Snapshot:
    """The inverse of `pack_state` for layers with `heads` KV heads.

    Raises:
        DamagedFile: it is not such a state.
    """
    try:
        line, masks = data.split(b"\n", 1)
        head = json.loads(line)
        seen, at, origins = int(head["seen"]), 0, list[Tensor | None]()
        for kind, count in zip(head["layers"], heads, strict=True):
            size = count * -(-seen // 8)
            if kind == "mask":
                latest = _origins(masks[at : at + size], count, seen)
                at += size
            origins.append(None if kind == "all" else latest)
        return Snapshot(seen, int(head["next_position"]), bool(head["reindexed"]), tuple(origins))
    except (ValueError, KeyError, TypeError, UnboundLocalError, RuntimeError) as error:
        raise DamagedFile(f"The state beside the open chunk cannot be read ({error}).") from error


def _mask(origins: Tensor, seen: int) -> bytes:
    bits = torch.zeros((origins.shape[0], -(-seen // 8) * 8), dtype=torch.uint8)
    bits.scatter_(1, origins.cpu().to(torch.int64), 1)
    packed = (bits.view(origins.shape[0], -1, 8) * _BITS).sum(-1, dtype=torch.uint8)
    return bytes(packed.numpy().data)


def _origins(data: bytes, heads: int, seen: int) -> Tensor:
    packed = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(heads, -1, 1)
    bits = (packed & _BITS).view(heads, -1)[:, :seen] != 0
    return bits.nonzero()[:, 1].view(heads, -1).to(torch.int32)


# --- choosing --------------------------------------------------------------------------------------------------------


def choose(
    cache: WorkingSet, available: Available, snapshot: Snapshot | None, first: int, window: int
) -> WorkingSetState:
    """What becomes resident: everything if it fits, else as it was, else the first `first` tokens and the last ones."""
    tokens, plain = available.tokens, available.plain
    if plain and tokens <= min(cache.longest(reindexed=False), default=cache.plan.capacity - cache.plan.patch):
        return _state(cache, available, [None] * len(cache.layers), reindexed=False, next_position=tokens)
    if snapshot is not None:
        origins = [_moved(layer, snapshot.seen, tokens) for layer in snapshot.origins]
        lengths = [tokens if layer is None else layer.shape[1] for layer in _bounded(cache, origins)]
        reindexed = snapshot.reindexed or not plain
        if all(count <= most for count, most in zip(lengths, cache.longest(reindexed=reindexed), strict=True)):
            position = _position(snapshot, tokens, max(lengths, default=0), window) if reindexed else tokens
            return _state(cache, available, origins, reindexed=reindexed, next_position=position)
    reindexed = not plain or tokens > window
    kept = _first_and_last(cache, tokens, first, reindexed=reindexed)
    longest = max((part.numel() for part in kept if part is not None), default=min(tokens, cache.plan.working_set))
    return _state(cache, available, kept, reindexed=reindexed, next_position=longest if reindexed else tokens)


def _first_and_last(cache: WorkingSet, tokens: int, first: int, *, reindexed: bool) -> list[Tensor | None]:
    """Of each layer as many as it can keep; one tensor for layers that can keep the same. None where it slides."""
    sizes = iter(cache.working_set_sizes(reindexed=reindexed))
    keeps = [None if layer.is_sliding else min(next(sizes), tokens) for layer in cache.layers]
    chosen = {keep: first_and_last(tokens, first, keep) for keep in keeps if keep is not None}
    return [None if keep is None else chosen[keep] for keep in keeps]


def _position(snapshot: Snapshot, tokens: int, longest: int, window: int) -> int:
    """Rotary position of the next token: where it would have been, unless the entries do not fit before it."""
    position = tokens - snapshot.seen + snapshot.next_position
    return position if longest <= position <= window else longest


def first_and_last(tokens: int, first: int, keep: int) -> Tensor:
    """Origins [1, keep]: the first `first` tokens and the last ones."""
    first = min(first, keep // 2)
    return torch.cat((torch.arange(first), torch.arange(tokens - (keep - first), tokens)))[None].to(torch.int32)


def _moved(origins: Tensor | None, seen: int, tokens: int) -> Tensor | None:
    """The same choice for fewer or more tokens: later ones were all resident. Heads keep the same number."""
    if origins is None:
        return None
    if tokens >= seen:
        later = torch.arange(seen, tokens, dtype=torch.int32).expand(origins.shape[0], -1)
        return torch.cat((origins, later), dim=1)
    left = int((origins < tokens).sum(1).min())
    rows = [head[head < tokens][-left:] for head in origins]
    return torch.stack(rows)


def _bounded(cache: WorkingSet, origins: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [part for layer, part in zip(cache.layers, origins, strict=True) if not layer.is_sliding]


def _state(
    cache: WorkingSet, available: Available, origins: Sequence[Tensor | None], *, reindexed: bool, next_position: int
) -> WorkingSetState:
    layers, shared = list[LayerState](), dict[tuple[int, int], LayerState]()
    for layer, chosen in zip(cache.layers, origins, strict=True):
        key = (-layer.span if layer.span else id(chosen), layer.shape.kv_heads)
        if key not in shared:
            shared[key] = _layer_state(layer, available, None if layer.span else chosen)
        layers.append(shared[key])
    return WorkingSetState(available.tokens, next_position, reindexed, tuple(layers))


def _layer_state(layer: WorkingSetLayer, available: Available, chosen: Tensor | None) -> LayerState:
    tokens = available.tokens
    if chosen is None:
        chosen = torch.arange(max(0, tokens - (layer.span or tokens)), tokens, dtype=torch.int32)[None]
    origins = chosen.expand(layer.shape.kv_heads, -1).contiguous()
    homes = available.positions[origins.to(torch.int64)]
    return LayerState(origins.to(layer.device), homes.to(layer.device))


# --- putting back ----------------------------------------------------------------------------------------------------


def put_back(
    spill: Spill, stored: Stored, cache: WorkingSet, state: WorkingSetState, available: Available, scratch: Scratch
) -> None:
    """Make `state` the active working set, its numbers read from the tiers.

    Raises:
        RowDamaged: a row on disk is not what was written; the working set is empty then.
    """
    cache.prepare(state)
    try:
        targets = _targets(cache, state, scratch)
        for batch, rows in _read(spill, stored, targets, available.tokens // CHUNK):
            for index, target in enumerate(targets):
                start, size = spill.layout.offsets[index], spill.codec.sections[index]
                target.take(spill.codec, index, batch, rows[:, start : start + size])
        if available.open is not None:
            _take_open(available.open, targets, available.tokens // CHUNK)
    except BaseException:
        cache.clear()
        raise
    cache.settle(state)


class _Target:
    """Where a layer's entries go, and which rows they come from."""

    def __init__(self, layer: WorkingSetLayer, origins: Tensor, rows: int, scratch: Scratch) -> None:
        self.layer = layer
        self.origins = origins
        edges = (torch.arange(rows + 2, dtype=torch.int32) * CHUNK).expand(origins.shape[0], -1).contiguous()
        self.edges: list[list[int]] = torch.searchsorted(origins, edges).T.tolist()
        self._scratch = scratch

    def needs(self, row: int) -> bool:
        return self.edges[row] != self.edges[row + 1]

    def take(self, codec: RowCodec, index: int, rows: range, sections: Tensor) -> None:
        """Decode the sections [rows, bytes] of layer `index` into the entries that come from `rows`."""
        low, high = self.edges[rows.start], self.edges[rows.stop]
        if low == high:
            return
        if len(set(low)) == 1 and all(stop - start == len(rows) * CHUNK for start, stop in zip(low, high, strict=True)):
            whole = [split(part[:, low[0] : high[0]], 1, (len(rows), CHUNK)) for part in self.layer.as_computed]
            codec.decode(index, sections.to(self.layer.device), *whole)
            return
        for first in range(rows.start, rows.stop, ROW_GROUP):
            group = range(first, min(first + ROW_GROUP, rows.stop))
            self._scatter(codec, index, group, sections[first - rows.start :][: len(group)])

    def _scatter(self, codec: RowCodec, index: int, rows: range, sections: Tensor) -> None:
        shape = self.layer.shape
        decoded = self._scratch.views(shape.kv_heads, len(rows), shape.head_dim)
        codec.decode(index, sections.to(self.layer.device), *decoded)
        for head, (low, high) in enumerate(zip(self.edges[rows.start], self.edges[rows.stop], strict=True)):
            chosen = (self.origins[head, low:high] - rows.start * CHUNK).to(self.layer.device)
            for store, part in zip(self.layer.as_computed, decoded, strict=True):
                store[head, low:high] = part[head].flatten(0, 1).index_select(0, chosen)


def _targets(cache: WorkingSet, state: WorkingSetState, scratch: Scratch) -> list[_Target]:
    rows = state.seen // CHUNK
    on_cpu = {id(layer.origins): layer.origins.cpu() for layer in state.layers}
    return [
        _Target(layer, on_cpu[id(part.origins)], rows, scratch)
        for layer, part in zip(cache.layers, state.layers, strict=True)
    ]


def _read(spill: Spill, stored: Stored, targets: Sequence[_Target], rows: int) -> Iterator[tuple[range, Tensor]]:
    """Every row that any layer needs, in pieces of one half; the next piece is read while one is used."""
    needed = [row for row in range(rows) if any(target.needs(row) for target in targets)]
    return spill.ahead(list(pieces_of(needed, spill.rows_per_half)), partial(spill.load_rows, stored))


def open_tail(spill: Spill, tail: Tail) -> OpenChunk:
    """The open chunk as it was at the end of a turn."""
    payload = torch.frombuffer(bytearray(tail.payload), dtype=torch.uint8)
    ends = list(accumulate(spill.lossless.sections, initial=0))
    return OpenChunk(spill.lossless, [payload[start:end] for start, end in pairwise(ends)], tail.exact)


def open_row(spill: Spill, found: Found) -> OpenChunk | None:
    """A sealed row of which another text goes on, as an open chunk; None if it is damaged: then it is read again."""
    assert found.begun is not None
    lender = Stored(found.begun.conversation, found.begun, found.begun.rows, found.begun.rows)
    try:
        row = spill.call(spill.load_rows, lender, found.rows, 1, 0)[0].clone()
    except RowDamaged as damage:
        spill.damaged(lender, damage)
        return None
    places = zip(spill.layout.offsets, spill.codec.sections, strict=True)
    exact = found.begun.headers[found.rows].exact
    return OpenChunk(spill.codec, [row[start : start + size] for start, size in places], exact)


def _take_open(chunk: OpenChunk, targets: Sequence[_Target], row: int) -> None:
    for index, (target, section) in enumerate(zip(targets, chunk.sections, strict=True)):
        target.take(chunk.codec, index, range(row, row + 1), section[None])
