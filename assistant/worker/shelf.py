"""What is kept of conversations, as others ask for it: where it lies, removing it, verifying it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from assistant.orders import Check, Forget
from assistant.reports import KvCheck, KvStatus, Outside, ResidentSet, TierUse
from assistant.worker.loader import Loaded
from memory.block import CHUNK
from memory.folder import WAIT_S, KvFolder
from memory.forgetting import forget as remove
from memory.spill import Spill
from memory.store import Memory
from memory.sweep import check as check_folder


def kv_status(loaded: Loaded | None) -> KvStatus | None:
    """Bytes by tier and purpose, and what each resident conversation takes."""
    if loaded is None:
        return None
    memory, spill = loaded.memory, loaded.memory.spill
    status = KvStatus(device=_device(loaded), sets=_sets(memory), layers=list(memory.plan.capacities))
    seen, beside, capacity = loaded.gauge.outside()
    status.outside = Outside(seen=seen, parts=beside, capacity=capacity)
    if spill is not None:
        parts, measured = spill.call(spill.disk.use)
        status.ram = TierUse(parts={"rows": spill.ram.used, "free slots": spill.ram.free}, total=spill.ram.capacity)
        status.ram.limit = spill.ram.capacity
        status.disk = TierUse(parts=parts, total=measured, limit=spill.disk.quota)
        status.counters = dict(sorted((spill.counters + spill.ram.counters + spill.disk.counters).items()))
        status.spilling, status.notice = spill.writing, spill.notice
        status.row_bytes = spill.disk.layout.stride
        status.ram.conversations = {
            name: tokens // CHUNK * spill.ram.row_bytes for name, tokens in spill.ram.tokens.items()
        }
        status.disk.conversations = KvFolder.walk(spill.disk.folder.path).conversations
    return status


def forget(loaded: Loaded | None, request: Forget) -> None:
    """Remove a conversation from every tier."""
    if (spill := _spill_of(loaded, request.folder)) is not None and loaded is not None:
        loaded.memory.forget_later(request.conversation)
        loaded.episodes.forget(request.conversation)
        spill.forget(request.conversation, request.heirs)
        return
    if loaded is not None:
        loaded.episodes.forget(request.conversation)
    with _folder(request.folder) as folder:
        remove(folder, request.conversation, request.heirs)


def check(loaded: Loaded | None, request: Check) -> KvCheck:
    """Verify every stored row, on the thread that owns the folder."""
    spill = _spill_of(loaded, request.folder)
    if spill is not None:
        return KvCheck(**asdict(spill.call(spill.check, request.repair)))
    with _folder(request.folder) as folder:
        return KvCheck(**asdict(check_folder(folder, repair=request.repair)))


def _spill_of(loaded: Loaded | None, folder: str) -> Spill | None:
    """The open tiers, if they are those of `folder`."""
    spill = loaded.memory.spill if loaded is not None else None
    return spill if spill is not None and spill.disk.folder.path == Path(folder) else None


def _folder(path: str) -> closing[KvFolder]:
    return closing(KvFolder.open(Path(path), wait_s=WAIT_S))


def _device(loaded: Loaded) -> TierUse:
    plan = loaded.memory.plan
    working = sum(one.bytes for one in _sets(loaded.memory))
    parts = {
        "weights": plan.weights,
        "working sets": working,
        "free KV": plan.kv - working,
        "staging": plan.staging,
        "activations": plan.activations,
        "process": plan.process,
    }
    if plan.ram:
        parts["RAM tier"] = plan.ram
    held = {one.conversation: one.bytes for one in _sets(loaded.memory)}
    return TierUse(parts=parts, total=loaded.gauge.current(), limit=loaded.budget, conversations=held)


def _sets(memory: Memory) -> list[ResidentSet]:
    active, sets = memory.sealer.trail.conversation, list[ResidentSet]()
    for name, trail in memory.sets().items():
        taken = asdict(memory.working_set.footprint(None if name == active else name))
        state: Literal["active", "waiting"] = "active" if name == active else "waiting"
        sets.append(ResidentSet(conversation=name, tokens=len(trail.tokens), state=state, **taken))
    return sets
