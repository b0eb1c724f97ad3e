"""The plan (weights | KV | staging | activations) and the ledger that is asked before anything is allocated.

One number is promised, the budget. `plan` divides it before the model is loaded; `Ledger` refuses what would pass it.
No torch in here: sizes are bytes, lengths are tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from memory.block import CHUNK
from memory.errors import BudgetExceeded, BudgetTooSmall, UnsupportedModel
from memory.geometry import Geometry, LayerGeometry
from memory.layers.allocate import allocate

MIB = 1024**2
GIB = 1024**3

PATCH_TOKENS = 64
"""Longest patch in tokens: the room kept beside the working set for the text whose queries score it."""

PROCESS = 16 * MIB
"""What a process grows by beside tensors once its model is loaded: buffers of libraries, stacks, gaps in the heap.

Measured on a CPU: 5 MiB beyond the tensors that the plan counts, over 10,000 tokens read and 60 written.
"""

HOME_COPY = 3
"""Tensors per layer once positions are re-indexed: keys as first computed, keys in place, values (2 before that)."""

SMALLEST_WORKING_SET = 256
"""Below this many tokens beside one block a working set cannot hold sinks, a system prompt and a recent window."""

LEAST_PART = 1 / 4
"""A layer's budget is at least this part of the mean, both as what can be kept once positions are re-indexed."""

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1000, "kib": 1024, "m": 1000**2, "mb": 1000**2, "mib": MIB}
_UNITS |= {"g": 1000**3, "gb": 1000**3, "gib": GIB, "t": 1000**4, "tb": 1000**4, "tib": 1024 * GIB}


def parse_size(text: str) -> int:
    """Bytes of "900MiB", "6 GiB", "1.5GB" or a plain number of bytes.

    Raises:
        ValueError: not a positive size; the text says what is expected.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match and match[2].lower() in _UNITS else 0
    if not 0 < size < 2**50:
        raise ValueError(f"{text!r} is not a size: write a number with MiB or GiB, for example 900MiB or 6GiB.")
    return size


def format_size(size: int) -> str:
    """`size` bytes in the largest binary unit that keeps it at least 1, with at most one decimal above MiB."""
    if abs(size) >= GIB:
        return f"{size / GIB:.2f} GiB"
    if abs(size) >= MIB:
        return f"{size / MIB:,.0f} MiB"
    return f"{size / 1024:,.0f} KiB" if abs(size) >= 1024 else f"{size} B"


def default_budget(free_gpu: int | None, ram: int) -> int:
    """90 % of the GPU memory free now; without a GPU a quarter of the RAM, at most 4 GiB. All in bytes."""
    return free_gpu * 9 // 10 if free_gpu is not None else min(ram // 4, 4 * GIB)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a budget is divided. Sizes in bytes; `capacity`, `block` and `patch` in tokens.

    `capacity` is the number of entries per KV head that a layer without a sliding window can hold, on the mean over
    these layers, the room for the patch included; `working_set` is what remains after an eviction.
    """

    budget: int
    weights: int
    kv: int
    staging: int
    activations: int
    capacity: int
    block: int
    patch: int
    waiting: int = 0
    """Working sets whose sliding layers have room to wait beside the active one (layers without a window share)."""
    ram: int = 0
    """Bytes of the RAM tier, where it lies in the same memory as everything else (no GPU)."""
    process: int = 0
    """Bytes for what the process itself grows by."""
    capacities: tuple[int, ...] = ()
    """Entries of each layer without a sliding window, in their order, where they differ; their mean is `capacity`."""

    @property
    def total(self) -> int:
        """Bytes spoken for."""
        return self.weights + self.kv + self.staging + self.activations + self.ram + self.process

    @property
    def working_set(self) -> int:
        """Entries kept per head when a block must make room: what fits beside one block and the patch."""
        return self.capacity - self.block - self.patch

    def sentence(self) -> str:
        """The sum, for people."""
        always = {"weights": self.weights, "KV": self.kv, "staging": self.staging, "activations": self.activations}
        chosen = {"RAM tier": self.ram, "process": self.process}
        parts = always | {name: size for name, size in chosen.items() if size}
        return (
            " + ".join(f"{name} {format_size(size)}" for name, size in parts.items()) + f" = {format_size(self.total)}"
        )


def activation_bytes(geometry: Geometry, block: int, capacity: int, itemsize: int) -> int:
    """Upper estimate of the live tensors of one block's forward pass beside weights and KV.

    Counted: residual stream and norms (fp32 copies included), query/key/value before and after rotation, the partial
    attention results and their merge, the gated MLP, the patch's scores over one KV head in fp32 (before and after the
    softmax, and the head's keys), the logits of one token in fp32 with the copies that the samplers make.
    """
    head_dim = max(layer.head_dim for layer in geometry.layers)
    attention = geometry.query_heads * head_dim
    stream = block * (geometry.hidden * (4 * itemsize + 8) + attention * (4 * itemsize + 12))
    mlp = block * geometry.intermediate * 4 * itemsize
    group = max(geometry.query_heads // layer.kv_heads for layer in geometry.layers)
    scores = capacity * 4 * (2 * group * PATCH_TOKENS + head_dim)
    return stream + mlp + scores + 8 * geometry.vocab * 4


def staging_bytes(geometry: Geometry, capacity: int, itemsize: int) -> int:
    """The temporaries of an eviction: one layer's kept keys and values gathered, and one head rotated in fp32."""
    longest = max([capacity, *(layer.window or 0 for layer in geometry.layers)])
    widest = max(layer.kv_heads * layer.head_dim for layer in geometry.layers)
    head_dim = max(layer.head_dim for layer in geometry.layers)
    return longest * (2 * widest * itemsize + 6 * head_dim * 4 + 64)


def span(window: int) -> int:
    """Entries a sliding layer keeps: its window, and no less than a chunk that waits to be sealed."""
    return max(window, CHUNK)


def sliding_capacity(window: int, block: int, patch: int) -> int:
    """Entries a sliding layer must hold: what it keeps, one block and the patch."""
    return span(window) + block + patch


WAITING = 2
"""Working sets that can wait beside the active one, in layers with a sliding window."""


def plan(
    geometry: Geometry,
    budget: int,
    weights: int,
    itemsize: int,
    block: int,
    *,
    staging: int = 0,
    ram: int = 0,
    process: int = 0,
    shares: Sequence[float] = (),
) -> Plan:
    """Divide `budget` bytes for a model whose weights take `weights` bytes and whose KV numbers take `itemsize`.

    `staging` bytes are set aside for chunks on their way from and to the tiers, `ram` bytes for a RAM tier in the
    same memory, `process` bytes for what the process grows by beside tensors (see `PROCESS`). The capacity is the
    largest that fits, at most what the trained window can address; `block` is halved (to no less than 16 tokens) while
    the smallest working set does not fit beside it, and room for waiting working sets in sliding layers is given up
    before the budget is refused. `shares`: how much of the working set each layer without a sliding window gets (see
    `memory.layers`); none: all the same.

    Raises:
        BudgetTooSmall: not even the smallest working set fits; the text shows the sum and the smallest budget.
        UnsupportedModel: the `shares` differ, and not every layer's entries take the same bytes.
    """
    if len(set(shares)) > 1 and len({layer.bytes_per_entry(itemsize) for layer in geometry.full_layers}) > 1:
        raise UnsupportedModel("The layers of this model differ in shape, so that entries cannot move between them.")
    fixed = _Fixed(geometry, weights, itemsize, staging, ram, process, tuple(shares))
    least = _least(fixed, budget, min(block, max(16, geometry.window // 4)))
    if least.total > budget:
        raise BudgetTooSmall(
            f"The budget of {format_size(budget)} is too small: {least.sentence()}. "
            f"The smallest budget that works is {-(-least.total // MIB)} MiB.",
            smallest=-(-least.total // MIB) * MIB,
        )
    found = _largest(fixed, budget, least)
    if fixed.shares and not found.capacities:  # nothing is left to move, and what moves costs room on its way
        return plan(geometry, budget, weights, itemsize, least.block, staging=staging, ram=ram, process=process)
    return found


def _least(fixed: _Fixed, budget: int, block: int) -> Plan:
    """The smallest working set beside the largest block that leaves room for it, else beside the smallest block."""
    least = fixed.divide(block, _smallest(fixed.geometry, block))
    return least if block <= 16 or least.total <= budget else _least(fixed, budget, block // 2)


def _largest(fixed: _Fixed, budget: int, least: Plan) -> Plan:
    """The largest working set that fits, beside as many waiting ones as fit beside the smallest."""

    def fits(capacity: int, waiting: int) -> bool:
        return fixed.divide(least.block, capacity, waiting=waiting).total <= budget

    waiting = next(n for n in range(WAITING, -1, -1) if fits(least.capacity, n))
    low, high = least.capacity, max(least.capacity, fixed.geometry.window)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle, waiting) else (low, middle - 1)
    return fixed.divide(least.block, low, budget, waiting)


def _smallest(geometry: Geometry, block: int) -> int:
    return min(geometry.window, SMALLEST_WORKING_SET + block + _patch(geometry))


def _patch(geometry: Geometry) -> int:
    return min(PATCH_TOKENS, geometry.window // 8)


def divide_capacity(shares: Sequence[float], capacity: int, headroom: int, window: int) -> tuple[int, ...]:
    """Entries per layer, `capacity` on the mean: room for a block and the patch (`headroom`), and a share of the rest.

    A layer holds at most what the trained window can address, and at least the smallest working set. Once positions are
    re-indexed it can still keep two chunks (one waits to be sealed in a recent window of half of it) and `LEAST_PART`
    of what `capacity` would leave. () where all layers get the same.
    """
    rest = capacity - headroom
    entries = allocate(shares, rest * len(shares), _floor(capacity, headroom), max(rest, window - headroom))
    return tuple(headroom + count for count in entries) if len(set(entries)) > 1 else ()


def _floor(capacity: int, headroom: int) -> int:
    """The least entries beside `headroom`; see `divide_capacity`."""
    keep = max(2 * CHUNK, math.ceil(LEAST_PART * (capacity * 2 / HOME_COPY - headroom)))
    least = max(headroom + SMALLEST_WORKING_SET, -(-(headroom + keep) * HOME_COPY // 2))
    return min(least, capacity) - headroom


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What a division does not choose."""

    geometry: Geometry
    weights: int
    itemsize: int
    staging: int
    ram: int
    process: int
    shares: tuple[float, ...] = ()

    def divide(self, block: int, capacity: int, budget: int = 0, waiting: int = 0) -> Plan:
        """The plan with this block and capacity, whatever it takes."""
        geometry, itemsize, patch = self.geometry, self.itemsize, _patch(self.geometry)
        positions = 2 * 4 * sum(layer.kv_heads for layer in geometry.layers) * capacity
        sliding = sum(self._sliding(layer, block + patch, waiting) for layer in geometry.sliding_layers)
        capacities = divide_capacity(self.shares, capacity, block + patch, geometry.window) if self.shares else ()
        longest = max(capacities, default=capacity)
        return Plan(
            budget=budget,
            weights=self.weights,
            kv=geometry.kv_bytes_per_token(itemsize) * capacity + sliding + positions,
            staging=staging_bytes(geometry, longest, itemsize) + self.staging,
            activations=activation_bytes(geometry, block, longest, itemsize),
            capacity=capacity,
            block=block,
            patch=patch,
            waiting=waiting,
            ram=self.ram,
            process=self.process,
            capacities=capacities,
        )

    def _sliding(self, layer: LayerGeometry, headroom: int, waiting: int) -> int:
        """Bytes of a sliding layer: its window and headroom with both copies of the keys, and pages to wait in."""
        window = layer.window or 0
        front = HOME_COPY * sliding_capacity(window, headroom, 0) // 2
        pages = waiting * -(-span(window) // CHUNK) * CHUNK
        return layer.bytes_per_entry(self.itemsize) * (front + pages)


@dataclass(slots=True)
class Ledger:
    """Bytes promised and bytes held, by name. Ask `reserve` first, allocate after."""

    budget: int
    held: dict[str, int] = field(default_factory=dict)
    peak: int = 0

    @property
    def total(self) -> int:
        """Bytes held now."""
        return sum(self.held.values())

    def reserve(self, name: str, size: int) -> None:
        """Add `size` bytes under `name`.

        Raises:
            BudgetExceeded: the budget would be passed; nothing is recorded.
        """
        if self.total + size > self.budget:
            raise BudgetExceeded(
                f"{name} needs {format_size(size)}, and {format_size(self.total)} of the budget of "
                f"{format_size(self.budget)} are taken."
            )
        self.held[name] = self.held.get(name, 0) + size
        self.peak = max(self.peak, self.total)

    def release(self, name: str) -> None:
        """Give back everything held under `name`."""
        self.held.pop(name, None)

    @contextmanager
    def transient(self, name: str, size: int) -> Iterator[None]:
        """Hold `size` bytes under `name` for the duration of a step."""
        self.reserve(name, size)
        try:
            yield
        finally:
            self.held[name] -= size
            if not self.held[name]:
                del self.held[name]
