"""A part of the slots for the question's episode, the rest for what the current queries attend to (design 4.4, 4.7)."""

from __future__ import annotations

from dataclasses import dataclass

from memory.policy.base import Base
from memory.policy.recall import Recall


@dataclass(frozen=True)
class Hybrid(Recall):
    """A turn begins with what the episode's patch attends to most; recall then leaves the best `share` of it alone."""

    base: Base = "episode"
    share: float = 0.25
