"""Exceptions as they go into a log: their kind and where they came from, never their words.

Those may quote a message, a name or a path.
"""

from __future__ import annotations

import sys
import threading
import traceback
from pathlib import Path


def without_words(error: BaseException) -> list[str]:
    """The kind of an exception, then the places that it passed, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [type(error).__name__, *(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)]


def report(error: BaseException) -> None:
    """One line about an exception on standard error."""
    print(" < ".join(without_words(error)), file=sys.stderr, flush=True)


def keep_words_out() -> None:
    """Make whatever ends this process, or one of its threads, say no more than that."""
    sys.excepthook = lambda _kind, error, _trace: report(error)
    threading.excepthook = lambda ended: report(ended.exc_value or ended.exc_type())
