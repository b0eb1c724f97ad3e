"""Layer budgets: what is known of a model's layers, and how the working set is divided among them.

`memory.layers.measure` makes a profile; it needs the model and is imported by whoever has one.
"""

from __future__ import annotations

from memory.layers.allocate import ALLOCATORS, Allocator, allocate, make_allocator
from memory.layers.profile import Profile, load_or_measure

__all__ = ["ALLOCATORS", "Allocator", "Profile", "allocate", "load_or_measure", "make_allocator"]
