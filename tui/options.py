"""What the command line of `assistant chat` can say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """None leaves it to the daemon's settings."""

    conversation: str | None = None
    model: str | None = None
    budget: str | None = None
    quant: str | None = None
    policy: str | None = None
    mode: str | None = None
    web: bool = False
    port: int = 8000
