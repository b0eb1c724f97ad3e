"""What runs a step: the modelled device, a pool of working sets with prices. `real.py` has the other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from benchmarks.agents.trace import Step
from memory.block import CHUNK


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
    block_size: int = 256

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

    def times(self, factor: float) -> Costs:
        """A device that is `factor` times as slow."""
        prices = {name: price * factor for name, price in asdict(self).items() if name != "block_size"}
        return Costs(**prices, block_size=self.block_size)


class Pool:
    """Who is resident among `entries`: the rules of `memory.store` and `memory.cache`, by numbers of tokens only.

    The active set is contiguous; others wait in pages of 64 entries, as long as half of the pool stays free of them.
    """

    def __init__(self, entries: int, headroom: int) -> None:
        """`headroom`: entries that stay free beside the active set for the patch."""
        self.entries = entries
        self.headroom = headroom
        self.active = ""
        self.size = 0
        self.waiting = dict[str, int]()

    def open(self, program: str, pins: Sequence[str]) -> tuple[int, int]:
        """Make `program` active; (its resident tokens, the tokens that changed places)."""
        if program == self.active:
            return self.size, 0
        left = self.size if self.size and self._can_wait(program, pins) else 0
        entered = self.waiting.pop(program, 0)
        if left:
            self.waiting[self.active] = left
        self.active, self.size = program, entered
        return entered, left + entered

    def grow(self, size: int, pins: Sequence[str]) -> None:
        """The active set becomes `size` tokens; waiting ones leave for it."""
        while self.waiting and self.entries - self.headroom - sum(map(_pages, self.waiting.values())) < size:
            del self.waiting[self._leaving(pins)[0]]
        self.size = size

    def _can_wait(self, enters: str, pins: Sequence[str]) -> bool:
        others = {name: size for name, size in self.waiting.items() if name != enters}
        before = [name for name in self._leaving(pins, self.active) if name != enters]
        before = before[: before.index(self.active)]
        for count in range(len(before) + 1):
            stay = sum(_pages(size) for name, size in others.items() if name not in before[:count])
            if stay + _pages(self.size) <= self.entries - self.entries // 2:
                for name in before[:count]:
                    del self.waiting[name]
                return True
        return False

    def _leaving(self, pins: Sequence[str], active: str | None = None) -> list[str]:
        held = [*self.waiting] if active is None else [*self.waiting, active]
        return [name for name in held if name not in pins] + [name for name in reversed(pins) if name in held]


class ModelDevice:
    """A `Pool` with prices."""

    def __init__(self, costs: Costs, entries: int, headroom: int = 0, *, recompute: bool = False) -> None:
        """`recompute`: what left the device is read again instead of put back."""
        self.costs = costs
        self.pool = Pool(entries, headroom)
        self.recompute = recompute

    def run(self, program: str, step: Step, pins: Sequence[str]) -> Spent:
        costs, pool = self.costs, self.pool
        switches = program != pool.active
        resident, moved = pool.open(program, pins)
        missed = step.kept if resident < step.kept else 0
        pool.grow(step.size, pins)
        prompt = step.kept + step.new
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
