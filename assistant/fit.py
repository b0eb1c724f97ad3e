"""What a model takes, and what a budget leaves of it for KV: estimates from the geometry, before anything is loaded."""

from __future__ import annotations

import platform
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from assistant.errors import BudgetError
from memory.aside import choosing_bytes, staging_bytes
from memory.budget import MIB, PROCESS, Plan, format_size, plan
from memory.errors import BudgetTooSmall
from memory.geometry import Geometry

LINEAR_BYTES = {"int8": 1.01, "nf4": 0.5 + 4 / 64}
"""Bytes per weight of a quantised linear layer (bitsandbytes): int8 with a scale per row, NF4 with one per 64."""

SMALL_TENSORS = 1.005
"""Biases and other small tensors that the shapes in a configuration do not show."""

HALVES = platform.machine().lower() in ("x86_64", "amd64")
"""Whether a CPU of this kind multiplies matrices that are kept in fp16 (assistant.worker.halves)."""

ENCODER_SHARE = 2
"""On a CPU the embedding model comes out of the budget, as long as the capacity stays one part in so many."""

GGUF_NOTE = "A GGUF saves no memory here: it is converted once, and loaded in one of the quantisations above."


class Fit(BaseModel):
    """One quantisation against one budget. Bytes, except `kv_tokens`: the tokens the KV part has room for.

    `here` is whether this machine's device computes like that: fp32 on a CPU, bf16 on a GPU.
    """

    model_config = ConfigDict(frozen=True)

    quantisation: str
    weights: int
    kv: int
    staging: int
    activations: int
    process: int
    total: int
    kv_tokens: int
    block: int
    smallest_budget: int
    fits: bool
    here: bool

    def loads(self, asked: str) -> bool:
        """Whether `--quant` with this value may come to it on this machine."""
        halves = HALVES and self.quantisation != "bf16"
        return self.here and self.flag in (automatic(halves=halves) if asked == "auto" else (asked,))

    @property
    def flag(self) -> str:
        """What `--quant` calls it."""
        return "none" if self.quantisation in ("fp32", "bf16") else self.quantisation

    @property
    def sum(self) -> str:
        """The sum, for people."""
        parts = {
            "weights": self.weights,
            "KV": self.kv,
            "staging": self.staging,
            "activations": self.activations,
            "process": self.process,
        }
        return (
            " + ".join(f"{name} {format_size(size)}" for name, size in parts.items()) + f" = {format_size(self.total)}"
        )


def fits(
    geometry: Geometry, budget: int, itemsize: int, block: int, *, stores: bool = True, encoder: int = 0
) -> list[Fit]:
    """Every quantisation against `budget`, on a device that computes in numbers of `itemsize` bytes.

    `stores`: KV is kept in tiers (the setting `spill`), which takes room for rows on their way; on a CPU (numbers of 4
    bytes) also for choosing among them, here as the default policy does it. `encoder`: bytes that the embedding model
    takes out of the budget, where there is room for it.
    """
    sizes = {"fp32": 4, "bf16": 2, "fp16": 4, "int8": itemsize, "nf4": itemsize}
    choosing = choosing_bytes(geometry, "current", "latest") if itemsize == 4 else 0
    found = []
    for name, size in sizes.items():
        aside = staging_bytes(geometry, size) + choosing if stores else 0
        found.append(_fit(geometry, name, budget, size, block, aside, encoder, here=_here(name, size, itemsize)))
    return found


def with_encoder(make: Callable[[int], Plan], encoder: int) -> tuple[Plan, int]:
    """The plan with room for the embedding model, and that room; or without it, where it would take too much.

    `make` plans with so many bytes for the process.
    """
    alone = make(PROCESS)
    try:
        beside = make(PROCESS + encoder)
    except (BudgetError, BudgetTooSmall):
        return alone, 0
    return (beside, encoder) if beside.capacity * ENCODER_SHARE >= alone.capacity else (alone, 0)


def automatic(*, halves: bool) -> tuple[str, ...]:
    """What `--quant auto` chooses from, the first that fits; `halves`: on a CPU that multiplies matrices in fp16, which
    is about twice as fast as fp32 (docs/decisions, 9)."""
    return ("fp16" if halves else "none", "int8", "nf4")


def weight_bytes(geometry: Geometry, quantisation: str, itemsize: int) -> int:
    """Bytes of the weights: linear layers as quantised, everything else in numbers of `itemsize` bytes."""
    if quantisation == "fp16":
        return int(_half_bytes(geometry) * SMALL_TENSORS)
    linear = geometry.linear_parameters * LINEAR_BYTES.get(quantisation, itemsize)
    return int((linear + geometry.other_parameters * itemsize) * SMALL_TENSORS)


def packed_bytes(outputs: int, inputs: int) -> int:
    """Bytes of a matrix in fp16 as torch packs it for a CPU (FBGEMM): outputs in blocks of 16, inputs of 512."""
    return 2 * (-(-outputs // 16) * 16) * (-(-inputs // 512) * 512)


def _half_bytes(geometry: Geometry) -> int:
    """Matrices in fp16 and the embeddings, also where the output head is the same numbers."""
    hidden, middle = geometry.hidden, geometry.intermediate
    total = packed_bytes(geometry.vocab, hidden) + 2 * geometry.vocab * hidden
    for layer in geometry.layers:
        queries, keys = geometry.query_heads * layer.head_dim, layer.kv_heads * layer.head_dim
        shapes = (queries + 2 * keys, hidden), (hidden, queries), (2 * middle, hidden), (hidden, middle)
        total += sum(packed_bytes(*shape) for shape in shapes)
    return total


def verdict(found: list[Fit], budget: int, asked: str = "auto") -> str:
    """One sentence about this machine and `--quant` as asked: fits, fits if ..., or does not."""
    ours = [fit for fit in found if fit.loads(asked)]
    if not ours:
        return f"no: this machine does not compute with --quant {asked}"
    first = ours[0]
    if first.fits:
        return f"fits: {first.quantisation}, with {first.kv_tokens:,} tokens of KV in {format_size(budget)}"
    enough = format_size(first.smallest_budget)
    if smaller := next((fit for fit in ours if fit.fits), None):
        loaded = f"{smaller.quantisation} ({smaller.kv_tokens:,} tokens of KV)"
        return f"fits if loaded as {loaded}, which --quant auto does; {first.quantisation} needs {enough}"
    least = min(ours, key=lambda fit: fit.smallest_budget)
    smallest = f"{least.smallest_budget // MIB}MiB with --quant {least.flag}"
    return f"no: {format_size(budget)} is too small; the smallest budget that works is {smallest}"


def _fit(
    geometry: Geometry, name: str, budget: int, itemsize: int, block: int, aside: int, encoder: int, *, here: bool
) -> Fit:
    weights = weight_bytes(geometry, name, itemsize)
    smallest = _smallest(geometry, weights, itemsize, block, aside)
    size = max(budget, smallest)
    division, _ = with_encoder(
        lambda process: plan(geometry, size, weights, itemsize, block, staging=aside, process=process), encoder
    )
    return _described(name, division, smallest, fits=budget >= smallest, here=here)


def _here(name: str, size: int, itemsize: int) -> bool:
    return size == itemsize and (HALVES or name != "fp16")


def _smallest(geometry: Geometry, weights: int, itemsize: int, block: int, aside: int) -> int:
    try:
        plan(geometry, 1, weights, itemsize, block, staging=aside, process=PROCESS)
    except BudgetTooSmall as error:
        return error.smallest
    return 1


def _described(name: str, division: Plan, smallest: int, *, fits: bool, here: bool) -> Fit:
    return Fit(
        quantisation=name,
        weights=division.weights,
        kv=division.kv,
        staging=division.staging,
        activations=division.activations,
        process=division.process,
        total=division.total,
        kv_tokens=division.capacity if fits else 0,
        block=division.block,
        smallest_budget=smallest,
        fits=fits,
        here=here,
    )
