"""How `assistant mem` tells what forks store by themselves, and what they share."""

from __future__ import annotations

from assistant.controls import without_controls
from assistant.protocol import KvStatus, StoredUse
from memory.budget import format_size


def fork_lines(kv: KvStatus) -> list[str]:
    """A line for every conversation that was forked from another one, or begins with rows of one."""
    return [_line(one) for one in kv.stored if one.shared or one.origin is not None]


def _line(one: StoredUse) -> str:
    name, origin = without_controls(one.conversation), without_controls(one.origin or "another conversation")
    if not one.own:
        return f"{name}, forked from {origin}: 0 B of its own until it diverges"
    return f"{name}, forked from {origin}: {format_size(one.own)} of its own, {format_size(one.shared)} shared"
