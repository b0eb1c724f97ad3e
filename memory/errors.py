"""What can go wrong in here, as exceptions whose text a user can act on."""

from __future__ import annotations


class MemoryFailure(Exception):
    """Base of all errors raised by `memory`."""


class UnsupportedModel(MemoryFailure):
    """The model's attention is of a kind whose KV this library cannot manage."""


class BudgetTooSmall(MemoryFailure):
    """The budget cannot hold the plan; `smallest` is the smallest budget in bytes that can."""

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


class BudgetExceeded(MemoryFailure):
    """A reservation would pass the budget; nothing was allocated."""


class Cancelled(MemoryFailure):
    """The caller asked to stop; the memory is consistent up to the last finished block."""
