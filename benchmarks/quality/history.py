"""A history read once with everything resident: its full KV, and the same sealed as the program stores it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.data import Talk
from benchmarks.quality.source import Layers
from benchmarks.tiers import memory_on
from memory.store import Mode

ROOM = 2048
"""Entries beside the history in which nothing has to leave while it is read."""


@dataclass(frozen=True, slots=True)
class History:
    """The full KV of a conversation, and the folder of its sealed rows."""

    talk: Talk
    layers: Layers
    folder: Path

    @property
    def tokens(self) -> int:
        """Its length."""
        return int(self.layers[0][0].shape[1])

    @property
    def bytes_per_entry(self) -> int:
        """Of one key and value of one layer."""
        keys = self.layers[0][0]
        return 2 * keys.shape[0] * keys.shape[2] * keys.itemsize


def read(model: Any, talk: Talk, folder: Path) -> History:
    """The history of `talk`, from `folder` where it was read before."""
    ids, file = talk.ids, folder / "full.pt"
    if not file.exists():
        with memory_on(model, folder / "exact", "int8", len(ids) + ROOM, "exact") as memory:
            memory.read(ids[memory.resume(ids).reused :])
            memory.seal()
            layers = [tuple(part.clone() for part in layer.stored) for layer in memory.working_set.layers]
        torch.save(layers, file)
    return History(talk, torch.load(file), folder / "exact")


def seal(model: Any, talk: Talk, folder: Path, mode: Mode, entries: int) -> Path:
    """The history sealed as a working set of `entries` reads it in `mode`; the folder of its rows."""
    target = folder / f"{mode}-{entries}"
    if not (target / "done").exists():
        with memory_on(model, target, "int8", entries, mode) as memory:
            memory.protect(talk.prefix)
            memory.read(talk.ids[memory.resume(talk.ids).reused :])
            memory.seal()
        (target / "done").touch()
    return target
