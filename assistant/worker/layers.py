"""Layer budgets in the worker: each layer's share of the working set, by what was measured of the model once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assistant.errors import BudgetError
from assistant.orders import ModelSpec
from assistant.template import encode_text
from assistant.worker.device import give_back
from memory.budget import MIB, format_size
from memory.fingerprint import Fingerprint
from memory.folder import PROFILE
from memory.geometry import Geometry
from memory.layers import Profile, load_or_measure, make_allocator
from memory.layers.measure import calibration_text, measure, measuring_bytes


def layer_shares(
    spec: ModelSpec,
    model: nn.Module,
    tokenizer: Any,
    geometry: Geometry,
    dtype: torch.dtype,
    free: int,
    fingerprint: Fingerprint | None,
) -> list[float]:
    """How much of the working set each layer without a sliding window gets, in numbers of `dtype`; only their ratios
    count.

    Call before KV is allocated: a model that was never measured is, within `free` bytes. What was measured is kept in
    the KV folder under `fingerprint`; without one it is measured at every start.

    Raises:
        BudgetError: `free` does not hold what measuring takes.
    """
    allocator = make_allocator(spec.layers, alpha=spec.alpha)

    def measured() -> Profile:
        _check_room(spec, measuring_bytes(geometry, dtype.itemsize), free)
        profile = measure(model, encode_text(tokenizer, calibration_text()), dtype=dtype)
        give_back()
        return profile

    profile = _profile(spec, fingerprint, measured) if allocator.profiled else None
    return allocator.shares(profile, [at for at, layer in enumerate(geometry.layers) if layer.window is None])


def _profile(spec: ModelSpec, fingerprint: Fingerprint | None, measured: Callable[[], Profile]) -> Profile:
    if spec.kv is None or fingerprint is None:
        return measured()
    return load_or_measure(Path(spec.kv.folder), PROFILE + fingerprint.digest.hex(), measured)


def _check_room(spec: ModelSpec, needed: int, free: int) -> None:
    if needed > free:
        missing = -(-(needed - free) // MIB)
        raise BudgetError(
            f"Measuring the layers of {spec.id} once, for layers = {spec.layers}, takes {format_size(needed)} beside "
            f"the weights, {missing} MiB more than the budget leaves. Use a larger budget, or layers = uniform."
        )
