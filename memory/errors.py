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


class TextTooLong(MemoryFailure):
    """A text, or the part of it that must stay resident, does not fit: `needed` tokens where there are `limit`."""

    def __init__(self, message: str, needed: int, limit: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.limit = limit


class BudgetExceeded(MemoryFailure):
    """A reservation would pass the budget; nothing was allocated."""


class Cancelled(MemoryFailure):
    """The caller asked to stop; the memory is consistent up to the last finished block."""


class CodecError(MemoryFailure):
    """A codec does not exist, is refused for this layer, or cannot hold these numbers."""


class DamagedFile(MemoryFailure):
    """A file of the KV folder is not what was written."""


class ForeignVersion(DamagedFile):
    """A file of the KV folder has another format version, or is none of ours."""


class RowDamaged(MemoryFailure):
    """Row `row` of a chunk file cannot be read back as it was written; `why` says how that was noticed."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(f"Row {row} is damaged: {why}.")
        self.row = row
        self.why = why


class KvLocked(MemoryFailure):
    """Another process uses the KV folder."""
