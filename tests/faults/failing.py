"""A stand-in for the `os` module in which chosen calls fail, or kill the process."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

CALLS = ("open", "write", "pwrite", "fsync", "replace", "ftruncate", "preadv")


class FaultyOs(ModuleType):
    """Passes everything to `os`; before the `at`-th call of `name` (and, if `sticky`, every later one) `fault` runs."""

    def __init__(self, name: str, at: int, fault: Callable[[tuple[Any, ...]], None], *, sticky: bool = False) -> None:
        super().__init__("os")
        self.name, self.at, self.fault, self.sticky = name, at, fault, sticky
        self.counted: Counter[str] = Counter()
        self.struck = 0

    def __getattr__(self, attribute: str) -> Any:
        real = getattr(os, attribute)
        if attribute not in CALLS:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.counted[attribute] += 1
            number = self.counted[attribute]
            if attribute == self.name and (number == self.at or (self.sticky and number > self.at)):
                self.struck += 1
                self.fault(args)
            return real(*args, **kwargs)

        return call


def fails_with(code: int) -> Callable[[tuple[Any, ...]], None]:
    """A fault that raises OSError."""

    def fault(_: tuple[Any, ...]) -> None:
        raise OSError(code, os.strerror(code))

    return fault


def kills(*, halfway: bool) -> Callable[[tuple[Any, ...]], None]:
    """A fault that ends the process with SIGKILL; `halfway` through the bytes of a write that has some."""

    def fault(args: tuple[Any, ...]) -> None:
        if halfway and len(args) == 3 and isinstance(args[1], bytes | memoryview):  # pwrite(descriptor, bytes, offset)
            os.pwrite(args[0], args[1][: len(args[1]) // 2], args[2])
        elif halfway and len(args) == 2 and isinstance(args[1], bytes | memoryview):  # write(descriptor, bytes)
            os.write(args[0], args[1][: len(args[1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    return fault
