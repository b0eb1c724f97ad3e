"""Keep what the question's episode needs in a part of the slots, and recall into the others."""

from __future__ import annotations

from dataclasses import dataclass

from memory.policy.base import Base
from memory.policy.recall import Recall


@dataclass(frozen=True)
class Hybrid(Recall):
    """A turn begins with what the episode's patch attends to most; recall then leaves the best `share` of it alone."""

    base: Base = "episode"
    share: float = 0.25
