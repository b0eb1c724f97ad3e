"""The allocation of a working set across layers: shares by one idea each, then whole entries that sum exactly.

An allocator says how much of the whole each layer should get; `allocate` turns shares into entries within bounds. Both
are pure arithmetic: the same profile gives the same numbers on every machine.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from memory.layers.profile import Profile

_LEAST = 1e-9
"""A share counts as at least this part of the largest one: when all others are full, a layer of no share gets the
rest."""


class Allocator(ABC):
    """Base of all allocators. `profiled`: whether it needs the model's profile."""

    profiled: ClassVar[bool] = True

    @abstractmethod
    def shares(self, profile: Profile | None, layers: Sequence[int]) -> list[float]:
        """How much each of `layers` (indices in the model, those without a sliding window) should get.

        Shares are not negative; only their ratios count.

        Raises:
            ValueError: the profile is needed and missing, or was not measured for one of the layers.
        """


@dataclass(frozen=True)
class Uniform(Allocator):
    """Every layer the same."""

    profiled: ClassVar[bool] = False

    def shares(self, profile: Profile | None, layers: Sequence[int]) -> list[float]:  # noqa: ARG002
        """One each."""
        return [1.0] * len(layers)


@dataclass(frozen=True)
class Pyramid(Allocator):
    """Linear from the first layer to the last, which gets 1/`beta` of the mean (PyramidKV, section 3.2)."""

    beta: float = 20.0
    profiled: ClassVar[bool] = False

    def shares(self, profile: Profile | None, layers: Sequence[int]) -> list[float]:  # noqa: ARG002
        """From 2 - 1/beta down to 1/beta, whose mean is 1."""
        last, steps = 1 / self.beta, max(len(layers) - 1, 1)
        first = 2 - last
        return [first - (first - last) * place / steps for place in range(len(layers))]


@dataclass(frozen=True)
class DrafterRefiner(Allocator):
    """Two groups by selectivity: broad layers (drafters) get `ratio` times what focused ones get (after ScaleKV)."""

    drafters: float = 0.25
    ratio: float = 3.0

    def shares(self, profile: Profile | None, layers: Sequence[int]) -> list[float]:
        """`ratio` for the share `drafters` of the layers whose attention is least selective, 1 for the others."""
        selectivity = _values(profile, layers, "selectivity")
        broad = sorted(range(len(layers)), key=selectivity.__getitem__)[: round(self.drafters * len(layers))]
        return [self.ratio if place in broad else 1.0 for place in range(len(layers))]


@dataclass(frozen=True)
class Sensitivity(Allocator):
    """In proportion to sensitivity to the power `alpha` (EpiCache, layer-wise allocation): what drifts gets more."""

    alpha: float = 2.0

    def shares(self, profile: Profile | None, layers: Sequence[int]) -> list[float]:
        """(s / largest s) ** alpha."""
        sensitivity = _values(profile, layers, "sensitivity")
        largest = max(sensitivity, default=0.0) or 1.0
        return [(value / largest) ** self.alpha for value in sensitivity]


ALLOCATORS: dict[str, type[Allocator]] = {
    "uniform": Uniform,
    "pyramid": Pyramid,
    "drafter_refiner": DrafterRefiner,
    "sensitivity": Sensitivity,
}
"""Allocators by name: the one table that engine, tests and benchmarks iterate."""


def make_allocator(name: str, **knobs: float) -> Allocator:
    """The allocator called `name`, with those of `knobs` that it has.

    Raises:
        KeyError: no such allocator; `ALLOCATORS` holds the names.
    """
    kind = ALLOCATORS[name]
    known = getattr(kind, "__dataclass_fields__", {})
    return kind(**{knob: value for knob, value in knobs.items() if knob in known})


def allocate(shares: Sequence[float], total: int, floor: int, cap: int) -> list[int]:
    """Entries per layer in proportion to `shares`, each within [floor, cap], that sum to exactly `total`.

    Layers out of bounds are held at the bound and the rest is divided anew (water filling); what rounding down leaves
    goes to the largest remainders. A layer never gets less than one of smaller share. Shares that are all zero mean
    the same for every layer.

    Raises:
        ValueError: no such division exists, or a share is negative or no number.
    """
    _check(shares, total, floor, cap)
    quotas = _fill(_weights(shares), total, floor, cap)
    entries = {place: math.floor(quota) for place, quota in quotas.items()}
    order = sorted(quotas, key=lambda place: (entries[place] - quotas[place], -shares[place], place))
    for place in order[: total - sum(entries.values())]:
        entries[place] += 1
    return [entries[place] for place in range(len(shares))]


def _values(profile: Profile | None, layers: Sequence[int], name: str) -> list[float]:
    if profile is None:
        raise ValueError(f"This allocation goes by {name}, and the model has no layer profile.")
    measured = getattr(profile, name)
    values = [measured[layer] if layer < len(measured) else None for layer in layers]
    missing = [layer for layer, value in zip(layers, values, strict=True) if value is None]
    if missing:
        raise ValueError(f"The layer profile has no {name} for layer {missing[0]}: it belongs to another model.")
    return [float(value) for value in values if value is not None]


def _check(shares: Sequence[float], total: int, floor: int, cap: int) -> None:
    layers = len(shares)
    if not 0 <= floor <= cap:
        raise ValueError(f"A layer cannot hold at least {floor} and at most {cap} entries.")
    if not floor * layers <= total <= cap * layers:
        raise ValueError(f"{layers} layers of {floor} to {cap} entries each cannot hold {total} together.")
    if not all(math.isfinite(share) and share >= 0 for share in shares):
        raise ValueError("Every layer's share must be a finite number that is not negative.")


def _weights(shares: Sequence[float]) -> list[Fraction]:
    largest = max(shares, default=0.0)
    if largest == 0:
        return [Fraction(1)] * len(shares)
    return [max(Fraction(share) / Fraction(largest), Fraction(_LEAST)) for share in shares]


def _fill(weights: Sequence[Fraction], total: int, floor: int, cap: int) -> Mapping[int, Fraction]:
    """The exact quota of each layer: weight x level, held within the bounds, where the level makes the sum `total`.

    Each round holds the layers past the bound that more is missing at; at most one round a layer.
    """
    held: dict[int, Fraction] = {}
    while len(held) < len(weights):
        free = [place for place in range(len(weights)) if place not in held]
        level = (total - sum(held.values(), Fraction(0))) / sum(weights[place] for place in free)
        quotas = {place: weights[place] * level for place in free}
        bounded = {place: min(max(quota, Fraction(floor)), Fraction(cap)) for place, quota in quotas.items()}
        excess = sum(bounded.values(), Fraction(0)) - sum(quotas.values(), Fraction(0))
        if excess == 0:
            return held | bounded
        raised = excess > 0
        held |= {
            place: bounded[place]
            for place in free
            if bounded[place] != quotas[place] and (bounded[place] > quotas[place]) == raised
        }
    return held
