"""KV memory for transformers causal language models: bounded working sets, block-wise prefill, selection policies.

A library of its own: it imports nothing of `assistant` or `tui`. `geometry`, `budget` and `errors` need no torch.

    from memory import Geometry, Memory, make_policy, parse_size, plan

    geometry = Geometry.from_config(model.config.to_dict())
    division = plan(geometry, parse_size("900MiB"), weights=model.get_memory_footprint(), itemsize=4, block=256)
    memory = Memory(model, division, make_policy("sinks_recent"))
    logits = memory.read(ids)            # any length; past the budget the policy chooses what stays
    logits = memory.step(token)          # one token of the reply
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.budget import parse_size, plan
    from memory.geometry import Geometry
    from memory.store import Memory, make_policy
else:
    _HOMES = {
        "parse_size": "budget",
        "plan": "budget",
        "Geometry": "geometry",
        "Memory": "store",
        "make_policy": "store",
    }

    def __getattr__(name: str) -> object:
        """A name of `__all__`, whose module is imported only now: some of them need torch, some do not."""
        if name not in _HOMES:
            raise AttributeError(f"module 'memory' has no attribute {name!r}")
        return getattr(import_module(f"memory.{_HOMES[name]}"), name)


__all__ = ["Geometry", "Memory", "make_policy", "parse_size", "plan"]
