"""One turn on the screen: what the user wrote, a reply (streaming Markdown), and sentences of the program itself.

No markup is ever parsed in these texts: they are drawn as characters, or as Markdown with HTML switched off.
The styles stand here and not in app.tcss because nothing of this file is needed for the first paint.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Markdown, Static

from tui.figures import count
from tui.files import fold
from tui.lines import report
from tui.pace import Pace
from tui.reasoning import Split, split
from tui.text import Cleaner, clean, shorten
from tui.widgets.fold import Fold
from tui.widgets.selectable import Selectable

if TYPE_CHECKING:
    from assistant.protocol import TurnState, Usage

SHOWN = 20_000
"""Longest text of a user's turn that is drawn; the rest is counted."""
_FLUSH_S = 1 / 10
_EASE = 3.0
"""Drawing may take a quarter of the time, on a slow machine too."""
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.M)
_DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:", re.M)


def _parser() -> MarkdownIt:
    return MarkdownIt("gfm-like", {"html": False})


def _unsettled(text: str) -> bool:
    """Its end may change how earlier lines are read: a fence is open, or a link is defined."""
    return len(_FENCE.findall(text)) % 2 == 1 or _DEFINITION.search(text) is not None


class UserTurn(Selectable):
    """A message of the user (or an imported transcript or system turn)."""

    DEFAULT_CSS = """
    UserTurn {
        height: auto; margin-top: 1; padding: 0 1; border-left: outer $primary; background: $surface;
        Static { height: auto; }
        .foot { color: $text-disabled; }
        &:focus { border-left: outer $accent; background: $panel; }
        &.-edited { border-left: outer $warning; }
        &.-covered { display: none; }
        &.-transcript, &.-system { border-left: outer $panel; background: $background; color: $text-muted; }
    }
    """

    def __init__(
        self,
        text: str,
        *,
        role: str = "user",
        turn_id: int | None = None,
        waits: str = "",
        version: tuple[int, int] = (1, 1),
    ) -> None:
        """`version`: which of how many."""
        super().__init__(classes=f"turn -{role}")
        self.text = text
        self.role = role
        self.turn_id = turn_id
        self.version, self.versions = version
        self.replaces: int | None = None
        """The turn whose place this message takes; its own, when only another reply is wanted."""
        self.replies = 0
        """Replies to it so far."""
        self._waits = waits
        self.set_class(turn_id is None, "-unsent")

    def compose(self) -> ComposeResult:
        yield Static(shorten(clean(fold(self.text)[0]), SHOWN)[0], classes="said", markup=False)
        yield Static("", classes="foot", markup=False)

    def on_mount(self) -> None:
        self._foot()

    @property
    def said(self) -> str:
        return self.text

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
        words = " · ".join(
            part for part in (*(f"+ {clean(file)}" for file in files), more, self.numbered, self._waits) if part
        )
        if foot := self.query_one_optional(".foot", Static):  # none where it was removed before it was composed
            foot.update(words)
            foot.display = bool(words)


class ReplyTurn(Selectable):
    """A reply. Either complete from the history, or fed piece by piece and then finished once."""

    DEFAULT_CSS = """
    ReplyTurn {
        /* The space above is that of the first block. A rule for the last one (:last-child of *) would compute the
           styles of everything on the screen again with every widget that is added anywhere. */
        height: auto; padding: 0 1 0 2;
        &:focus { border-left: outer $accent; padding: 0 1 0 1; }
        &.-covered { display: none; }
        Markdown { height: auto; min-height: 1; padding: 0; margin: 0; background: $background; }
        Markdown > *, Markdown > MarkdownParagraph { margin-top: 1; margin-bottom: 0; }
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
        version: tuple[int, int] = (1, 1),
        pace: Pace | None = None,
    ) -> None:
        """`version`: which of how many; `pace`: when a reply that is being written is drawn."""
        super().__init__(classes="turn -reply")
        self.text = clean(text)
        self.turn_id = turn_id
        self.version, self.versions = version
        self._pace = pace or Pace()
        self._parts = split(self.text) if text else Split()
        self._fold: Fold | None = None
        self._usage = usage
        self._state: TurnState = state
        self._remark = ""
        self._cleaner = Cleaner()
        self._pending: list[str] = []
        self._drawn = ""
        """What of the reply was added to the screen piece by piece."""
        self._drawing = asyncio.Lock()
        """Held while text is added, so that the end does not overtake it."""
        self._timer: Timer | None = None
        self._finished = False

    def compose(self) -> ComposeResult:
        if self._parts.thought:
            yield self._folded()
        yield Markdown(self._parts.said, parser_factory=_parser, open_links=False)
        yield Static("", classes="foot", markup=False)

    async def on_mount(self) -> None:
        if self._finished:  # before it was on the screen
            await self._draw()
        self._foot()

    @property
    def said(self) -> str:
        """The reply without its reasoning."""
        return self._parts.said.strip()

    def unfold(self, shown: bool) -> None:
        """Show the reasoning, or one line for it."""
        if self._fold is not None:
            self._fold.open(shown)

    def action_unfold(self) -> None:
        if self._fold is not None:
            self._fold.open(not self._fold.shown)

    def _folded(self) -> Fold:
        transcript = next((one for one in self.ancestors if one.id == "transcript"), None)
        self._fold = Fold(shown=transcript is not None and transcript.has_class("-reasoning"))
        self._fold.say(self._parts.thought, thinking=self._parts.thinking)
        return self._fold

    def feed(self, piece: str) -> None:
        """Add a piece; drawing follows at a steady pace, so that a fast model does not drown the screen."""
        if safe := self._cleaner.feed(piece):
            self.text += safe
            if said := self._parts.feed(safe):
                self._pending.append(said)
        if self._timer is None:
            self._timer = self.set_timer(_FLUSH_S, self._flush)

    async def finish(self, text: str | None, state: TurnState, usage: Usage | None = None) -> None:
        """End the stream and draw what is left; all of it once more where an open fence could vanish.

        `text` None keeps what was fed.
        """
        if self._timer is not None:
            self._timer.stop()
        await self._pace.gap()
        async with self._drawing:
            self._finished = True
        self.text = self.text if text is None else clean(text)
        self._state, self._usage = state, usage
        self._parts = split(self.text)
        await self._draw()
        self._foot()

    async def _draw(self) -> None:
        """All of the text, where there is something to draw it on: not before the mount, not after the end."""
        body, said = self.query_one_optional(Markdown), self._parts.said
        if body is None:
            return
        await self._show_thought()
        if self._drawn and said.startswith(self._drawn) and not _unsettled(said):
            await body.append(said[len(self._drawn) :])
        else:
            await body.update(said)
        self._drawn = said

    def remark(self, words: str) -> None:
        """One more word about the reply, in the line under it."""
        self._remark = words
        self._foot()

    async def _flush(self) -> None:
        await self._pace.gap()
        async with self._drawing:
            if self._finished:
                return
            started = time.monotonic()
            await self._show_thought()
            body = self.query_one_optional(Markdown)
            if self._pending and body is not None:
                text, self._pending = "".join(self._pending), []
                self._drawn += text
                await body.append(text)
        self.call_after_refresh(self._rest, started)

    def _rest(self, started: float) -> None:
        """The next drawing comes when this one's time has passed again and again: keys are heard in between."""
        pause = max(_FLUSH_S, _EASE * (time.monotonic() - started), self._pace.interval)
        self._timer = self.set_timer(pause, self._flush) if self._pending and not self._finished else None

    async def _show_thought(self) -> None:
        if self._fold is not None:
            self._fold.say(self._parts.thought, thinking=self._parts.thinking and not self._finished)
        elif self._parts.thought:
            await self.mount(self._folded(), before=0)

    def _foot(self) -> None:
        state = "interrupted" if self._state == "interrupted" else ""
        figures = report(self._usage) if self._usage else ""
        parts = ((self.numbered, "$primary"), (state, "$warning"), (self._remark, ""), (figures, ""))
        words = [(part, style) for part, style in parts if part]
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
