"""What one call of a tool may use."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes. `seconds` is for tools that name no time of their own.

    `memory` is the address space of each process, and what all of them may hold at once; `disk` and `entries` are what
    the working directory may grow to.
    """

    seconds: float = 30.0
    cpu_s: int = 10
    memory: int = 2 * GIB
    file: int = 64 * MIB
    disk: int = 256 * MIB
    entries: int = 10_000
    processes: int = 64
    descriptors: int = 256
    output: int = 64 * KIB
