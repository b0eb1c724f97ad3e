"""Keep the first tokens and the most recent ones (StreamingLLM, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memory.policy.base import LayerView, Policy


@dataclass(frozen=True)
class SinksRecent(Policy):
    """The more recent, the higher; the sinks are protected for every policy."""

    def score(self, layer: LayerView) -> Tensor:
        """Position in the conversation, [KV heads, entries]."""
        return layer.origins.to(torch.float32)
