"""One turn on the screen: what the user wrote, a reply (streaming Markdown), and sentences of the program itself.

No markup is ever parsed in these texts: they are drawn as characters, or as Markdown with HTML switched off.
The styles stand here and not in app.tcss because nothing of this file is needed for the first paint.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Markdown, Static

from tui.figures import count, plural, rate, seconds
from tui.files import fold
from tui.text import Cleaner, clean, shorten

if TYPE_CHECKING:
    from assistant.protocol import TurnState, Usage

SHOWN = 20_000
"""Longest text of a user's turn that is drawn; the rest is counted."""
_FLUSH_S = 1 / 10
_EASE = 3.0
"""Drawing may take a quarter of the time, on a slow machine too."""


def _parser() -> MarkdownIt:
    return MarkdownIt("gfm-like", {"html": False})


def report(usage: Usage) -> str:
    """The usage record as one line under the reply: nothing that was read or kept goes unsaid."""
    read = f"read {count(usage.computed_tokens)}"
    if usage.recomputed_tokens:
        reason = f": {clean(usage.recompute_reason)}" if usage.recompute_reason else ""
        read += f" ({count(usage.recomputed_tokens)} of them again{reason})"
    wrote = f"wrote {plural(usage.completion_tokens, 'token')}"
    parts = [f"reused {count(usage.cached_tokens)}, {read}, {wrote}", f"TTFT {seconds(usage.ttft_s)}"]
    if usage.decode_tok_s is not None:
        parts.append(f"{rate(usage.decode_tok_s)} tok/s")
    return " · ".join(parts)


class UserTurn(Vertical):
    """A message of the user (or an imported transcript or system turn)."""

    DEFAULT_CSS = """
    UserTurn {
        height: auto; margin-top: 1; padding: 0 1; border-left: outer $primary; background: $surface;
        Static { height: auto; }
        .foot { color: $text-disabled; }
        &.-transcript, &.-system { border-left: outer $panel; background: $background; color: $text-muted; }
    }
    """

    def __init__(self, text: str, *, role: str = "user", turn_id: int | None = None, waits: str = "") -> None:
        super().__init__(classes=f"turn -{role}")
        self.text = text
        self.turn_id = turn_id
        self._waits = waits
        self.set_class(turn_id is None, "-unsent")

    def compose(self) -> ComposeResult:
        yield Static(shorten(clean(fold(self.text)[0]), SHOWN)[0], classes="said", markup=False)
        yield Static("", classes="foot", markup=False)

    def on_mount(self) -> None:
        self._foot()

    def wait(self, reason: str) -> None:
        """Say under the turn what it waits for; empty when it no longer does."""
        self._waits = reason
        if self.is_mounted:
            self._foot()

    def sent(self, turn_id: int) -> None:
        """The daemon has it."""
        self.turn_id = turn_id
        self.remove_class("-unsent")

    def _foot(self) -> None:
        own, files = fold(self.text)
        _, left = shorten(clean(own), SHOWN)
        more = f"… and {count(left)} more characters, stored in full" if left else ""
        words = " · ".join(part for part in (*(f"+ {clean(file)}" for file in files), more, self._waits) if part)
        if foot := self.query_one_optional(".foot", Static):  # none where it was removed before it was composed
            foot.update(words)
            foot.display = bool(words)


class ReplyTurn(Vertical):
    """A reply. Either complete from the history, or fed piece by piece and then finished once."""

    DEFAULT_CSS = """
    ReplyTurn {
        /* The space above is that of the first block. A rule for the last one (:last-child of *) would compute the
           styles of everything on the screen again with every widget that is added anywhere. */
        height: auto; padding: 0 1 0 2;
        Markdown { height: auto; min-height: 1; padding: 0; margin: 0; background: $background; }
        Markdown > * { margin-top: 1; margin-bottom: 0; }
        .foot { height: auto; color: $text-disabled; }
    }
    """

    def __init__(
        self,
        text: str = "",
        *,
        state: TurnState = "done",
        usage: Usage | None = None,
        turn_id: int | None = None,
    ) -> None:
        super().__init__(classes="turn -reply")
        self.text = clean(text)
        self.turn_id = turn_id
        self._usage = usage
        self._state: TurnState = state
        self._remark = ""
        self._cleaner = Cleaner()
        self._pending: list[str] = []
        self._drawing = asyncio.Lock()
        """Held while text is added, so that the end does not overtake it."""
        self._timer: Timer | None = None
        self._finished = False

    def compose(self) -> ComposeResult:
        yield Markdown(self.text, parser_factory=_parser, open_links=False)
        yield Static("", classes="foot", markup=False)

    def on_mount(self) -> None:
        self._foot()

    @property
    def said(self) -> str:
        """The reply without its reasoning."""
        return self.text

    def feed(self, piece: str) -> None:
        """Add a piece; drawing follows at a steady pace, so that a fast model does not drown the screen."""
        if safe := self._cleaner.feed(piece):
            self.text += safe
            self._pending.append(safe)
        if self._timer is None:
            self._timer = self.set_timer(_FLUSH_S, self._flush)

    async def finish(self, text: str | None, state: TurnState, usage: Usage | None = None) -> None:
        """End the stream and draw the whole text once more, so that an open fence cannot vanish.

        `text` None keeps what was fed.
        """
        if self._timer is not None:
            self._timer.stop()
        async with self._drawing:
            self._finished = True
        self.text = self.text if text is None else clean(text)
        self._state, self._usage = state, usage
        await self.query_one(Markdown).update(self.text)
        self._foot()

    def remark(self, words: str) -> None:
        """One more word about the reply, in the line under it."""
        self._remark = words
        self._foot()

    async def _flush(self) -> None:
        async with self._drawing:
            if self._finished:
                return
            started = time.monotonic()
            text, self._pending = "".join(self._pending), []
            await self.query_one(Markdown).append(text)
        self.call_after_refresh(self._pause, started)

    def _pause(self, started: float) -> None:
        """The next drawing comes when this one's time has passed again and again: keys are heard in between."""
        pause = max(_FLUSH_S, _EASE * (time.monotonic() - started))
        self._timer = self.set_timer(pause, self._flush) if self._pending and not self._finished else None

    def _foot(self) -> None:
        state = "interrupted" if self._state == "interrupted" else ""
        figures = report(self._usage) if self._usage else ""
        words = [(part, style) for part, style in ((state, "$warning"), (self._remark, ""), (figures, "")) if part]
        if foot := self.query_one_optional(".foot", Static):
            foot.update(Content(" · ").join(Content.styled(*word) for word in words))
            foot.display = bool(words)

    @on(Markdown.LinkClicked)
    def _show_link(self, event: Markdown.LinkClicked) -> None:
        """A model may write any link under any words: show and copy the address, and open nothing."""
        event.stop()
        address = clean(event.href)
        self.app.copy_to_clipboard(address)
        self.app.notify(address, title="Link copied", markup=False)


class NoteTurn(Static):
    """A sentence of the program: an error, or quietly a receipt."""

    DEFAULT_CSS = """
    NoteTurn {
        height: auto; margin-top: 1; padding: 0 1; border-left: outer $error; color: $text-error;
        &.-quiet { border-left: outer $panel; color: $text-muted; }
    }
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        """`quiet`: nothing went wrong, for example a receipt."""
        super().__init__(clean(text), classes="note -quiet" if quiet else "note", markup=False)
        self.text = text

    def say(self, text: str) -> None:
        """Say this in place of what was said."""
        self.update(clean(text))
        self.text = text
