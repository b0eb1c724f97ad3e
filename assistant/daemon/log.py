"""The daemon's log: JSON lines in one file, events and counts, never the text of a message."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from assistant.places import private
from assistant.traces import without_words

LARGEST = 8 * 1024 * 1024
"""A log above this size is moved to `.1` when the next daemon starts."""


def open_log(path: Path) -> None:
    """Send our events and those of uvicorn to `path` (0600)."""
    rotate(path)
    handler = logging.FileHandler(path, encoding="utf-8")
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_text,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def open_raw(path: Path) -> int:
    """A descriptor that appends to the log, for the standard error of a child. The caller closes it."""
    private(path.parent)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path) -> None:
    """Make the log's folder and file, private; put a large one aside."""
    os.close(open_raw(path))
    if path.stat().st_size > LARGEST:
        path.replace(path.with_suffix(".log.1"))
        os.close(open_raw(path))


def _without_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """An exception as `assistant.traces` tells it."""
    if found := event.pop("exc_info", None):
        error = found[1] if isinstance(found, tuple) else found if isinstance(found, BaseException) else sys.exception()
        event["exception"] = error and without_words(error)
    return event
