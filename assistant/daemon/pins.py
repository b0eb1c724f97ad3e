"""The pinned working sets of programs whose tools run: who keeps the device's memory, and who gives it up first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["live", "expired", "follow-up waits"]


@dataclass(slots=True)
class Pin:
    """A working set of `bytes` kept for `program`, which arrived at `arrived`, while `tool` runs: until `until`."""

    program: str
    arrived: float
    tool: str
    bytes: int
    until: float
    follow_up: bool = False

    def state(self, now: float) -> State:
        """Whether it counts: it does while its time lasts, and as long as the step that will use it waits."""
        if self.follow_up:
            return "follow-up waits"
        return "live" if now < self.until else "expired"


@dataclass(frozen=True, slots=True)
class PinView:
    """A pin as it is shown: `left_s` seconds until it expires, None: it does not."""

    program: str
    tool: str
    bytes: int
    left_s: float | None
    state: State


class Pins:
    """Pins by program, one each. A pin that expired is no more than forgotten: nothing is dropped by it, its working
    set may leave before others when somebody needs the room."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds that never go back; `arrived` times are on it too."""
        self._clock = clock
        self._pins = dict[str, Pin]()

    def pin(self, program: str, arrived: float, tool: str, ttl: float, size: int) -> None:
        """A step of `program` ended in a call of `tool`: keep its `size` bytes for `ttl` seconds (0: do not)."""
        self.unpin(program)
        if ttl > 0:
            self._pins[program] = Pin(program, arrived, tool, size, self._clock() + ttl)

    def follow_up(self, program: str) -> None:
        """The next step of `program` waits in the lane: its pin counts until it runs, expired or not."""
        if program in self._pins:
            self._pins[program].follow_up = True

    def unpin(self, program: str) -> None:
        """The next step of `program` runs, or it ended."""
        self._pins.pop(program, None)

    def clear(self) -> None:
        """Nothing is on the device any more."""
        self._pins.clear()

    def ranking(self) -> list[str]:
        """Programs whose working sets count as pinned, the one to let go of last first: it arrived first."""
        now = self._clock()
        counting = [pin for pin in self._pins.values() if pin.state(now) != "expired"]
        return [pin.program for pin in sorted(counting, key=_arrival)]

    def view(self) -> list[PinView]:
        """Every pin, in the order of `ranking`, the expired ones after."""
        now = self._clock()
        pins = sorted(self._pins.values(), key=lambda pin: (pin.state(now) == "expired", *_arrival(pin)))
        return [_view(pin, now) for pin in pins]


def _arrival(pin: Pin) -> tuple[float, str]:
    return pin.arrived, pin.program


def _view(pin: Pin, now: float) -> PinView:
    left = None if math.isinf(pin.until) else max(0.0, pin.until - now)
    return PinView(pin.program, pin.tool, pin.bytes, left, pin.state(now))
