"""Tiny models with tiers below them: a RAM tier of a few rows and a disk tier in a folder of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from memory.chunkfile import Layout
from memory.codec import RowCodec, layer_codecs
from memory.fingerprint import Fingerprint
from memory.folder import KvFolder
from memory.geometry import Geometry
from memory.identity import model_fields
from memory.spill import Spill
from memory.store import Memory, make_policy
from memory.tier.disk import DiskTier
from tests.memory.models import CONFIGS, make_plan, model_pair, tokens


def make_spill(
    kind: str,
    folder: Path,
    codec: str = "lossless",
    ram_rows: int = 0,
    quota: int = 1 << 30,
    durable: bool = False,
    **fields: str,
) -> Spill:
    """Tiers for the tiny model of `kind`; `fields` replace fields of the fingerprint."""
    geometry = Geometry.from_config(CONFIGS[kind].to_dict())
    shapes = [(layer.kv_heads, layer.head_dim) for layer in geometry.layers]
    sealed = RowCodec(shapes, layer_codecs(codec, len(shapes), torch.float32))
    lossless = RowCodec(shapes, layer_codecs("lossless", len(shapes), torch.float32))
    layout = Layout(sealed.sections)
    print_of = Fingerprint.of(model_fields(model_pair(kind)[0], torch.float32, sealed.names) | fields)

    def open_disk() -> DiskTier:
        return DiskTier(
            KvFolder.open(folder), print_of, layout, sealed.names, shapes, quota, reserve=0, durable=durable
        )

    return Spill(sealed, lossless, ram_rows * layout.stride, open_disk)


@contextmanager
def stored_memory(
    kind: str,
    folder: Path,
    capacity: int = 400,
    block: int = 32,
    mode: Any = "auto",
    policy: str = "sinks_recent",
    capacities: tuple[int, ...] = (),
    **spill: Any,
) -> Iterator[Memory]:
    """A memory with tiers, opened on the conversation "chat"; closed (everything written) at the end."""
    tiers = make_spill(kind, folder, **spill)
    plan = make_plan(kind, capacity, block, capacities=capacities)
    try:
        memory = Memory(model_pair(kind)[0], plan, make_policy(policy), tokens(12, 99), spill=tiers, mode=mode)
        memory.open("chat")
        yield memory
    finally:
        tiers.close()


def read_all(memory: Memory, ids: list[int]) -> tuple[int, torch.Tensor]:
    """Resume and read: (tokens reused, logits after the last)."""
    reused = memory.resume(ids).reused
    return reused, memory.read(ids[reused:])
