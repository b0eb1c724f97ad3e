"""What commands print: tables and text on standard output; progress as a bar, plain lines or JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from assistant.entry import ModelEntry
from assistant.meter import Report
from assistant.protocol import dump
from assistant.reports import PullProgress
from memory.budget import format_size

_WORDS = {"download": "Downloading", "verify": "Verifying", "convert": "Converting", "done": "Done"}
_LINE_EVERY_S = 2.0


@contextmanager
def progress_reporter(entry: ModelEntry, *, as_json: bool) -> Iterator[Report]:
    """What a pull reports to, until the block ends. JSON goes to standard output, everything else to standard error."""
    if as_json:
        yield _print_json
    elif sys.stderr.isatty():
        with _Bar(entry.id) as bar:
            yield bar.report
    else:
        yield _Lines().report


def plain_console() -> Console:
    """Standard output for tables and text: as wide as the terminal, and never folded into a pipe."""
    width = None if sys.stdout.isatty() else 400
    return Console(file=sys.stdout, markup=False, highlight=False, width=width)


def _print_json(progress: PullProgress) -> None:
    print(dump(progress), flush=True)


class _Bar:
    """One bar per stage."""

    def __init__(self, model: str) -> None:
        self._model = model
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
        self._progress = Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, progress: PullProgress) -> None:
        if progress.stage == "done":
            return
        if progress.stage not in self._tasks:
            words = f"{_WORDS[progress.stage]} {self._model}"
            self._tasks[progress.stage] = self._progress.add_task(words, total=progress.total_bytes)
        self._progress.update(
            self._tasks[progress.stage], total=progress.total_bytes, completed=progress.done_bytes, refresh=True
        )


class _Lines:
    """A line when a stage begins and when it ends, and every two seconds in between."""

    def __init__(self) -> None:
        self._stage = ""
        self._said = 0.0
        self._ended = False

    def report(self, progress: PullProgress) -> None:
        ends = progress.done_bytes == progress.total_bytes
        new = progress.stage != self._stage
        due = time.monotonic() - self._said >= _LINE_EVERY_S
        if not (new or (ends and not self._ended) or (due and not ends)):
            return
        self._stage, self._said, self._ended = progress.stage, time.monotonic(), ends
        print(_line(progress), file=sys.stderr, flush=True)


def _line(progress: PullProgress) -> str:
    text = f"{_WORDS[progress.stage]} {progress.id}: {format_size(progress.done_bytes)}"
    if progress.stage == "done":
        return text
    if progress.total_bytes:
        share = 100 * progress.done_bytes // progress.total_bytes
        text += f" of {format_size(progress.total_bytes)} ({share} %)"
    if progress.rate:
        text += f", {format_size(int(progress.rate))}/s"
    if progress.eta_s is not None and progress.done_bytes != progress.total_bytes:
        text += f", {progress.eta_s:.0f} s left"
    return text
