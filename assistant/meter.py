"""Progress of a pull: counts that never fall within a stage, with rate and time left, not more than ten a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from assistant.reports import PullProgress

Report = Callable[[PullProgress], None]
Stage = Literal["download", "verify", "convert"]

_INTERVAL_S = 0.1


class Meter:
    """Turns "so many bytes are done" into reports. One for a whole pull; `begin` opens each stage."""

    def __init__(self, model: str, report: Report) -> None:
        self._model, self._report = model, report
        self._stage: Stage = "download"
        self._total: int | None = None
        self._done = self._offset = 0
        self._started = self._said = 0.0

    def begin(self, stage: Stage, total: int | None, already: int = 0) -> None:
        """Open a stage of `total` bytes, `already` of which need no work."""
        self._stage, self._total = stage, total
        self._done = self._offset = already
        self._started = time.monotonic()
        self._say()

    def at(self, done: int) -> None:
        """`done` bytes of the stage are done; a smaller figure than before is not shown."""
        bounded = done if self._total is None else min(done, self._total)
        self._done = max(self._done, bounded)
        if time.monotonic() - self._said >= _INTERVAL_S:
            self._say()

    def end(self) -> None:
        """The stage is complete."""
        self._total = self._done if self._total is None else self._total
        self._done = self._total
        self._say()

    def finish(self, size: int, path: str) -> None:
        """The model lies at `path` and takes `size` bytes."""
        self._report(PullProgress(id=self._model, stage="done", done_bytes=size, total_bytes=size, path=path))

    def _say(self) -> None:
        self._said = time.monotonic()
        spent = self._said - self._started
        rate = (self._done - self._offset) / spent if spent > 0.2 and self._done > self._offset else None
        left = (self._total - self._done) / rate if rate and self._total is not None else None
        self._report(
            PullProgress(
                id=self._model,
                stage=self._stage,
                done_bytes=self._done,
                total_bytes=self._total,
                rate=rate,
                eta_s=left,
            )
        )
