"""The first run: a model that is not on this machine is fetched, with its size and progress on the screen."""

from __future__ import annotations

import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import ProgressBar, Static
from textual.worker import Worker, WorkerError

from assistant.errors import AssistantError
from tui.figures import left, percent, size
from tui.screens.modal import Modal
from tui.session import Session
from tui.text import clean

if TYPE_CHECKING:
    from assistant.reports import ModelStatus, PullProgress

_STAGES = {"download": "downloading", "verify": "checking", "convert": "converting, once", "done": "done"}


class PullScreen(Modal[str | None]):
    """Fetches one model. Gives None when the model is there, else the sentence that says why it is not."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [
        Binding("escape", "cancel", "Cancel"),
        Binding("r", "retry", "Try again, after an error", key_display="r"),
    ]

    def __init__(self, session: Session, model: ModelStatus) -> None:
        super().__init__()
        self._session = session
        self._model = model
        self._failed = ""
        self._step: PullProgress | None = None
        self._since = time.monotonic()
        self._fetching: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Static("A model is needed", classes="heading", markup=False)
            yield Static(self._intro(), classes="body", markup=False)
            yield ProgressBar(show_eta=False, show_percentage=False)
            yield Static("starting", id="step", markup=False)
            yield Static("", classes="error", markup=False)
            yield Static("esc cancels; what is loaded so far is used next time", classes="keys", markup=False)

    def on_mount(self) -> None:
        self.set_interval(0.5, self._draw)
        self._fetching = self.fetch()

    async def on_unmount(self) -> None:
        """Whoever leaves while it is fetched leaves no child behind: its end is waited for."""
        if self._fetching is not None:
            with suppress(WorkerError):
                await self._fetching.wait()

    def _intro(self) -> str:
        known = self._model.download_bytes
        how_much = f"It is a download of {size(known)}." if known else "Its size is not known before the download."
        return f"{self._model.id} is not on this machine yet. {how_much} This happens once."

    @work(exclusive=True, exit_on_error=False)
    async def fetch(self) -> None:
        """Run the pull and follow its progress."""
        self._show_error("")
        try:
            async with aclosing(self._session.pull(self._model.id)) as steps:
                async for step in steps:
                    self._progress(step)
        except AssistantError as error:
            self._show_error(str(error))
            return
        self.dismiss(None)

    def action_cancel(self) -> None:
        self.workers.cancel_node(self)
        again = f"Your next message asks for it again, and so does: assistant models pull {self._model.id}"
        self.dismiss(self._failed or f"The download of {self._model.id} was cancelled. {again}")

    def action_retry(self) -> None:
        if self._failed:
            self._fetching = self.fetch()

    def _progress(self, step: PullProgress) -> None:
        if self._step is None or self._step.stage != step.stage:
            self._since = time.monotonic()
        self._step = step
        self.query_one(ProgressBar).update(total=step.total_bytes, progress=step.done_bytes)
        self._draw()

    def _draw(self) -> None:
        """The words under the bar, again every half second: some steps are silent for long."""
        if not self._failed:
            words = _words(self._step) if self._step else "starting"
            self.query_one("#step", Static).update(f"{words} · {time.monotonic() - self._since:.0f} s")

    def _show_error(self, sentence: str) -> None:
        self._failed = clean(sentence)
        line = self.query_one(".error", Static)
        line.update(f"{self._failed}\nr tries again" if sentence else "")
        line.display = bool(sentence)


def _words(step: PullProgress) -> str:
    """`downloading 34 % · 31 MiB of 89 MiB · 4.1 MiB/s · 14 s left`."""
    parts = [_STAGES[step.stage]]
    if step.total_bytes:
        parts[0] += f" {percent(step.done_bytes, step.total_bytes)}"
        parts.append(f"{size(step.done_bytes)} of {size(step.total_bytes)}")
    elif step.done_bytes:
        parts.append(size(step.done_bytes))
    if step.rate:
        parts.append(f"{size(int(step.rate))}/s")
    if step.eta_s is not None and step.stage == "download" and step.done_bytes < (step.total_bytes or 0):
        parts.append(left(step.eta_s))
    return " · ".join(parts)
