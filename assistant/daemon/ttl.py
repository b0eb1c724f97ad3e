"""How long the working set of a program that runs a tool stays pinned (after Continuum, arXiv 2511.02230)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

RELEASED_S = 2.0
"""The constant that Continuum's released preview pins for, whatever the reload costs."""


class TimeToLive(Protocol):
    """A rule for pins."""

    def ttl(self, tool: str, reload_s: float) -> float:
        """Seconds to pin a working set for while `tool` runs, if reloading it takes `reload_s`.

        0: do not pin; infinity: until the program ends.
        """


@dataclass(frozen=True, slots=True)
class Constant:
    """As long as reloading takes, times `factor`; at least `least` seconds (`RELEASED_S` for the released preview)."""

    factor: float = 1.0
    least: float = 0.0

    def ttl(self, tool: str, reload_s: float) -> float:  # noqa: ARG002
        return max(self.least, self.factor * reload_s)
