"""The Nth call of a function of `os` fails, as a full or a broken disk makes it fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Calls:
    """How often the watched function was called."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def failing(
    patch: pytest.MonkeyPatch, name: str, nth: int, number: int, *, for_ever: bool = False, short: int | None = None
) -> Iterator[Calls]:
    """Inside, call `nth` (from 1) of `os.<name>` raises errno `number`; `for_ever`: so do all later ones.

    `short`: writes before that take at most so many bytes each.
    """
    real, calls = getattr(os, name), Calls()

    def call(*args: Any, **options: Any) -> Any:
        calls.count += 1
        if calls.count == nth or (for_ever and calls.count > nth):
            raise OSError(number, os.strerror(number))
        if short is not None:
            args = (args[0], args[1][:short], *args[2:])
        return real(*args, **options)

    with patch.context() as patched:
        patched.setattr(os, name, call)
        yield calls
