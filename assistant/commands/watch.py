"""Progress of a request on standard error: the queue, the model being loaded, the text being read."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from assistant.commands.terminal import say
from assistant.protocol import Done, Event, Evicted, Loading, Notice, Prefill, Queued, Receipt, Resumed, Switched
from memory.budget import format_size

LINE_EVERY_S = 2.0


class Watch:
    """Shows a bar on a terminal, else a line every two seconds; gone when the reply begins.

    What reopening the conversation took is said on a terminal, and everywhere if something is read again: why at once,
    what it took when it is known, at the end.
    """

    def __init__(self) -> None:
        self._bar: _Bar | _Lines = _Bar() if sys.stderr.isatty() else _Lines()
        self._receipt: Receipt | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._receipt is not None and self._receipt.recompute_s is not None:
            say(f"reading {self._receipt.recomputed:,} tokens again took {self._receipt.recompute_s:.1f} s")

    def see(self, event: Event) -> None:
        """Show what is progress, end the display at anything else."""
        match event:
            case Queued():
                self._bar.show("Waiting", 0, 0, f"{event.position} in front")
            case Loading():
                rate = f"{format_size(event.done_bytes)} of {format_size(event.total_bytes)}"
                self._bar.show(f"Loading {event.model}", event.done_bytes, event.total_bytes, rate)
            case Resumed():
                self._bar.stop()
                if sys.stderr.isatty() or event.receipt.recomputed:
                    say(event.receipt.sentence())
            case Notice():
                self._bar.stop()
                say(event.text)
            case Prefill():
                self._bar.show("Reading", event.done, event.total, f"{event.tok_s:,.0f} tokens/s")
            case Switched() | Evicted():
                pass
            case Done():
                self._bar.stop()
                self._receipt = event.usage.receipt
            case _:
                self._bar.stop()


class _Bar:
    """One bar per stage, removed at the end."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        self._progress = Progress(
            *columns, TimeRemainingColumn(compact=True), console=Console(stderr=True), transient=True
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int, rate: str) -> None:
        if not self._tasks:
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total or None, rate=rate)
        self._progress.update(self._tasks[what], completed=done, rate=rate)

    def stop(self) -> None:
        self._progress.stop()


class _Lines:
    """For logs and pipes: nothing during the first two seconds, then a line now and then."""

    def __init__(self) -> None:
        self._what = ""
        self._began = self._said = time.monotonic()
        self._first = 0

    def show(self, what: str, done: int, total: int, rate: str) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._first = what, now, done
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        share = f" {100 * done // total} %" if total else ""
        left = (now - self._began) * (total - done) / (done - self._first) if done > self._first else 0
        say(f"{what}:{share} ({rate}{f', {left:.0f} s left' if left else ''})")

    def stop(self) -> None:
        """Nothing to clear."""
