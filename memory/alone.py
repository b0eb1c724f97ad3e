"""A memory for a loaded model in one call, tiers included: for whoever has no program around the library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from memory.aside import choosing_bytes, staging_bytes
from memory.budget import GIB, PROCESS, Plan, plan
from memory.chunkfile import Layout
from memory.codec import RowCodec, make_codecs
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.geometry import Geometry
from memory.identity import model_fields
from memory.policy import Policy
from memory.spill import Spill, half_bytes
from memory.store import Memory, make_policy
from memory.tier.disk import DiskTier

BLOCK = 256
QUOTA = 20 * GIB


@contextmanager
def memory_of(
    model: Any,
    budget: int,
    folder: Path,
    weights: str,
    policy: str = "recall",
    codec: str = "int8",
    patch: Sequence[int] = (),
) -> Iterator[Memory]:
    """A memory of `budget` bytes, weights included, whose stored KV lies in `folder`; all is written at the end.

    Args:
        model: a transformers causal LM in evaluation mode.
        weights: what names the weights, for example their digest: KV is served under an equal name only.
        policy: a name of `POLICIES`; "episodic" and "hybrid" choose in `Memory.focus`, before a question.
        codec: how sealed rows are kept: "lossless", "int8" or "int4".
        patch: token ids of the text that asks, for a policy that has one ("patched_prompt").

    Raises:
        ValueError: the policy asks with a text, and there is none.
        UnsupportedModel: the attention is not standard.
        BudgetTooSmall: the weights and the smallest working set do not fit.
        KvLocked: another process uses the folder.
    """
    geometry, chosen = Geometry.from_config(model.config.to_dict()), make_policy(policy)
    if chosen.patch and not patch:
        raise ValueError(
            f"{policy} asks with a text: give its ids as patch (POLICIES[{policy!r}].patch has the words)."
        )
    sealed, lossless = make_codecs(geometry, codec, model.dtype, model)
    division = _divide(geometry, chosen, budget, model, sealed)
    spill = Spill(sealed, lossless, 0, partial(_open_disk, folder, _fingerprint(model, weights, sealed), sealed))
    try:
        memory = Memory(model, division, chosen, patch, spill=spill)
        yield memory
        memory.seal()
    finally:
        spill.close()


def _divide(geometry: Geometry, policy: Policy, budget: int, model: Any, sealed: RowCodec) -> Plan:
    """The plan with room for rows on their way, and for choosing among those that are stored."""
    itemsize = model.dtype.itemsize
    staging = staging_bytes(geometry, itemsize, half_bytes(Layout(sealed.sections)))
    staging += choosing_bytes(geometry, policy.queries, policy.base)
    return plan(geometry, budget, model.get_memory_footprint(), itemsize, BLOCK, staging=staging, process=PROCESS)


def _fingerprint(model: Any, weights: str, sealed: RowCodec) -> Fingerprint:
    dtype: torch.dtype = model.dtype
    return Fingerprint.of(model_fields(model, dtype, sealed.names) | {"weights": weights})


def _open_disk(folder: Path, fingerprint: Fingerprint, sealed: RowCodec) -> DiskTier:
    layout = Layout(sealed.sections)
    return DiskTier(KvFolder.open(folder), fingerprint, layout, sealed.names, sealed.shapes, QUOTA)
