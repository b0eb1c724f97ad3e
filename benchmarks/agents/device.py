"""What runs a step: the modelled device, a pool of working sets with prices. `real.py` has the other one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.agents.trace import Step
from memory.block import CHUNK

BLOCK = 256
"""Tokens of a block, and room that is left for the next step."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one step by what they went to, and the tokens that were put back from below the device or read again
    because they had left it."""

    switch: float = 0.0
    reload: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    seal: float = 0.0
    missed: int = 0

    @property
    def seconds(self) -> float:
        return self.switch + self.reload + self.prefill + self.decode + self.seal


class Device(Protocol):
    """One lane: runs a step of a program, with the names of the programs whose sets are pinned (last to go first)."""

    def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent: ...

    def resident(self) -> Collection[str]:
        """Programs whose working sets are on the device."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of the parts of a step, linear in what they work on; measured by `calibration.py`."""

    block: float
    """Of each block of `block_size` new tokens."""
    new: float
    """Of each new token."""
    attended: float
    """Of each pair of a new token and one before it."""
    token: float
    """Of each token written."""
    context: float
    """Of each token in the context of one that is written."""
    reload: float
    """Of putting a working set back."""
    reloaded: float
    """Of each token put back."""
    switch: float
    """Of making another program's set the active one."""
    moved: float
    """Of each token that leaves for the waiting sets or enters from them."""
    seal: float
    """Of the end of a step."""
    sealed: float
    """Of each token of the set at the end of a step."""
    block_size: int = BLOCK

    def prefill_s(self, new: int, before: int) -> float:
        """Reading `new` tokens after `before`."""
        blocks = -(-new // self.block_size)
        return self.block * blocks + self.new * new + self.attended * new * (before + new / 2)

    def decode_s(self, out: int, before: int) -> float:
        """Writing `out` tokens after `before`."""
        return out * (self.token + self.context * (before + out / 2))

    def reload_s(self, tokens: int) -> float:
        """Putting `tokens` back."""
        return self.reload + self.reloaded * tokens

    def switch_s(self, moved: int) -> float:
        """Another active set; `moved` tokens changed places for it."""
        return self.switch + self.moved * moved

    def seal_s(self, size: int) -> float:
        """The end of a step with `size` tokens."""
        return self.seal + self.sealed * size

    def work_s(self, steps: Iterable[Step]) -> float:
        """Steps of one program on a device on which nothing has to leave."""
        return sum(
            self.prefill_s(step.new, step.kept) + self.decode_s(step.out, step.kept + step.new) + self.seal_s(step.size)
            for step in steps
        )


@dataclass(frozen=True, slots=True)
class Room:
    """A pool of `entries`; beside what is active `block` and `patch` entries stay free for the next step."""

    entries: int
    block: int = BLOCK
    patch: int = 64


GPU = Costs(
    block=0.010,
    new=1.25e-4,
    attended=4e-9,
    token=0.010,
    context=6.6e-8,
    reload=0.020,
    reloaded=2.2e-5,
    switch=0.005,
    moved=2.6e-7,
    seal=0.005,
    sealed=0.0,
)
"""By arithmetic, not measured: a model of 8B parameters in bf16 (16 GB, 128 KiB of KV a token, 64 KiB in int8) on a GPU
with 2 TB/s and 130 TFLOP/s, its chunks on a disk that reads 3 GB/s."""


class Pool:
    """Who is resident: the rules of `memory.store` and `memory.cache`, by numbers of tokens only.

    The active set is contiguous; others wait in pages of 64 entries as long as the next step has room.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.active = ""
        self.size = 0
        self.waiting = dict[str, int]()

    def open(self, program: str, tokens: int, pins: Sequence[str]) -> tuple[int, int]:
        """Make `program` active, whose prompt has `tokens`; (its resident tokens, the tokens that changed places)."""
        if program == self.active:
            return self.size, 0
        left = self.size if self.size and self._can_wait(program, tokens, pins) else 0
        entered = self.waiting.pop(program, 0)
        if left:
            self.waiting[self.active] = left
        self.active, self.size = program, entered
        return entered, left + entered

    def grow(self, size: int, pins: Sequence[str]) -> None:
        """The active set becomes `size` tokens; waiting ones leave for it."""
        most = self.room.entries - self.room.patch
        while self.waiting and most - sum(map(_pages, self.waiting.values())) < size:
            del self.waiting[self._leaving(pins)[0]]
        self.size = size

    def _can_wait(self, enters: str, tokens: int, pins: Sequence[str]) -> bool:
        needed = tokens + self.room.block + self.room.patch
        front = needed if needed <= self.room.entries else self.room.entries // 2
        most = self.room.entries - max(front, self.waiting.get(enters, 0))
        before = [name for name in self._leaving(pins, self.active) if name != enters]
        before = before[: before.index(self.active)]
        for count in range(len(before) + 1):
            gone = {enters, *before[:count]}
            if sum(_pages(size) for name, size in self.waiting.items() if name not in gone) + _pages(self.size) <= most:
                self.waiting = {name: size for name, size in self.waiting.items() if name not in before[:count]}
                return True
        return False

    def _leaving(self, pins: Sequence[str], active: str | None = None) -> list[str]:
        held = [*self.waiting] if active is None else [*self.waiting, active]
        return [name for name in held if name not in pins] + [name for name in reversed(pins) if name in held]


class ModelDevice:
    """A `Pool` with prices."""

    def __init__(self, costs: Costs, room: Room, *, recompute: bool = False) -> None:
        """`recompute`: what left the device is read again instead of put back."""
        self.costs = costs
        self.pool = Pool(room)
        self.recompute = recompute

    def resident(self) -> Collection[str]:
        return {*self.pool.waiting, self.pool.active}

    def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent:
        costs, pool = self.costs, self.pool
        switches = program != pool.active
        prompt = step.kept + step.new
        resident, moved = pool.open(program, prompt, pins)
        missed = step.kept if resident < step.kept else 0
        pool.grow(step.size, pins)
        again = missed if self.recompute else 0
        return Spent(
            switch=costs.switch_s(moved) if switches else 0.0,
            reload=costs.reload_s(missed) if missed and not again else 0.0,
            prefill=costs.prefill_s(step.new + again, step.kept - again),
            decode=costs.decode_s(step.out, prompt),
            seal=costs.seal_s(step.size),
            missed=missed,
        )


def _pages(tokens: int) -> int:
    return -(-tokens // CHUNK) * CHUNK
