"""The transcript: the newest turns as widgets, a row for the older ones, and a scroll that follows unless moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from tui.figures import plural

if TYPE_CHECKING:
    from assistant.protocol import Turn
    from tui.widgets.selectable import Selectable

W = TypeVar("W")

PAGE = 50
"""Turns mounted at once, and loaded at a time; fewer where they are long."""
ROOM = 300
"""Lines of text mounted at once, about: what a key press costs grows with what is mounted."""
_FEWEST = 2
_WIDTH = 100

WELCOME = """\
Hello. What you write here stays on this machine, and so do the replies.

Enter sends, Ctrl+J breaks the line, Esc stops a reply and keeps it.
Ctrl+S shows your conversations, F1 all keys."""


class MoreRow(Static):
    """The row above the oldest turn on the screen (`older`), or under the newest one (`newer`)."""

    class Pressed(Message):
        """The row was clicked."""

        def __init__(self, row: MoreRow) -> None:
            super().__init__()
            self.row = row

        @property
        def control(self) -> MoreRow:
            return self.row

    def __init__(self, which: str) -> None:
        super().__init__("", id=which, markup=False)
        self.display = False

    def on_click(self) -> None:
        self.post_message(self.Pressed(self))


class Transcript(VerticalScroll, can_focus=False):
    """The turns of the open conversation: its tail, plus what was loaded on request."""

    class Following(Message):
        """Whether the end of the transcript is kept in sight has changed."""

        def __init__(self, following: bool, below: int) -> None:
            super().__init__()
            self.following = following
            self.below = below
            """Lines that came since the end was last in sight."""

    def __init__(self) -> None:
        super().__init__(
            MoreRow("older"), Static(WELCOME, id="welcome", markup=False), MoreRow("newer"), id="transcript"
        )
        self._following = True
        """The end has been in sight since the user last scrolled up."""
        self._seen = 0
        """How many lines there were when it last was."""
        self._kept: float | None = None
        """While older turns are put above: how far from the end the user is reading."""
        self.hidden = 0
        """Turns of this conversation above the oldest one on the screen."""
        self.newer = 0
        """Turns of this conversation after the newest one on the screen."""

    def on_mount(self) -> None:
        self.anchor()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._following and new_value < old_value and not self.at_end:
            self._following, self._seen = False, self.virtual_size.height
        self._following = self._following or self.at_end
        self._tell()

    def watch_virtual_size(self) -> None:
        """More lines than there were: said only to one who has scrolled up."""
        if self._kept is not None:
            self._seen = self.virtual_size.height  # these are older ones
        elif not self._following:
            self._tell()

    def _tell(self) -> None:
        below = 0 if self._following else max(self.virtual_size.height - self._seen, 0)
        self.post_message(self.Following(self.at_end, below))

    @property
    def at_end(self) -> bool:
        return self.scroll_y >= self.max_scroll_y

    @property
    def first_id(self) -> int | None:
        """The id of the oldest turn on the screen, where loading goes on."""
        ids = (getattr(child, "turn_id", None) for child in self._turns())
        return next((one for one in ids if one is not None), None)

    async def open(self, turns: list[Turn], older: int, newer: int = 0) -> None:
        """Show turns of a conversation, and how many there are before and after them. What is not sent yet stays."""
        shown = tail(turns)
        with self.app.batch_update():
            await self.remove_children([child for child in self._turns() if not child.has_class("-unsent")])
            self._older(older + len(turns) - len(shown))
            self._newer(newer)
            self.query_one("#welcome").display = not turns and not self._turns()
            await self.mount_all([widget_of(turn) for turn in shown], after=self.query_one("#welcome"))
        self.follow()

    def follow(self) -> None:
        """Go to the end and stay there until the user scrolls up."""
        self._kept = None
        self.anchor()

    def show(self, widget: Widget) -> None:
        """Add a turn at the end and go there."""
        self.query_one("#welcome").display = False
        self.mount(widget, before="#newer")
        self.follow()

    async def add(self, widget: Widget) -> None:
        """Add a turn at the end; a user who has scrolled up stays there."""
        self.query_one("#welcome").display = False
        await self.mount(widget, before="#newer")

    async def prepend(self, turns: list[Turn]) -> None:
        """Older turns above the others; what the user was reading stays where it is."""
        shown = tail(turns)
        self.release_anchor()
        self._kept = self.virtual_size.height - self.scroll_y
        self._older(self.hidden - len(shown) if turns else 0)
        await self.mount_all([widget_of(turn) for turn in shown], after=self.query_one("#welcome"))
        self.call_after_refresh(self._keep_place)

    async def trim(self) -> None:
        """Turns beyond a page go back to "older"."""
        here = self._turns()
        if surplus := here[: -len(tail(here))]:
            self._older(self.hidden + sum(child.has_class("turn") for child in surplus))
            await self.remove_children(surplus)
        self.follow()

    def _keep_place(self) -> None:
        """Scroll back to what was read, unless the end has been asked for meanwhile."""
        if self._kept is not None:
            self.scroll_to(y=self.virtual_size.height - self._kept, animate=False, force=True, immediate=True)
            self._kept = None

    def _turns(self) -> list[Widget]:
        here = (child for child in self.children if child.has_class("turn") or child.has_class("note"))
        return [child for child in here if not child.has_class("-covered")]

    # --- single turns -----------------------------------------------------------------------------------------------

    @property
    def selectable(self) -> list[Selectable]:
        """The turns on the screen, in order."""
        from tui.widgets.selectable import Selectable

        return [child for child in self._turns() if isinstance(child, Selectable)]

    @property
    def last_turn(self) -> Selectable | None:
        return next(iter(self.selectable[::-1]), None)

    def turn(self, turn_id: int) -> Selectable | None:
        """The turn of this id, when it is on the screen."""
        return next((one for one in self.selectable if one.turn_id == turn_id), None)

    def before(self, turn: Selectable) -> Selectable | None:
        """The turn before one."""
        here = self.selectable
        at = here.index(turn) if turn in here else 0
        return here[at - 1] if at else None

    def replies_to(self, turn: Selectable) -> int:
        """How many versions there are of the reply to a turn."""
        here = self.selectable
        at = here.index(turn) + 1 if turn in here else len(here)
        return here[at].versions if at < len(here) and here[at].has_class("-reply") else 0

    def select(self, turn_id: int) -> None:
        """Put the focus on a turn, and let it be seen."""
        if (found := self.turn(turn_id)) is not None:
            self.step(found, 0)

    def step(self, turn: Selectable, step: int) -> bool:
        """Put the focus on the turn so many after this one; False when there is none after it."""
        here = self.selectable
        at = here.index(turn) + step if turn in here else len(here)
        if at >= len(here):
            return False
        self.release_anchor()
        here[max(at, 0)].focus()
        return True

    def cover(self, turn: Selectable, *, keep: bool) -> None:
        """Hide a turn (unless `keep`) and everything after it, until it is known whether its place is taken."""
        here = self._turns()
        for child in here[here.index(turn) + keep :]:
            child.add_class("-covered")

    async def uncover(self) -> None:
        """Show what was hidden: its place was not taken."""
        for child in self.query(".-covered"):
            child.remove_class("-covered")

    async def drop_covered(self) -> None:
        """What was hidden is another version now."""
        await self.query(".-covered").remove()

    def _newer(self, count: int) -> None:
        self.newer = count
        row = self.query_one("#newer", MoreRow)
        row.display = count > 0
        row.update(f"↓ {plural(count, 'newer turn')} · ^end goes to the end")

    def _older(self, hidden: int) -> None:
        self.hidden = max(hidden, 0)
        row = self.query_one("#older", MoreRow)
        row.display = self.hidden > 0
        row.update(f"↑ {plural(self.hidden, 'older turn')} · ^o loads more")


def tail(turns: list[W]) -> list[W]:
    """The newest of the turns: at most a page of them and `ROOM` lines, and at least the last few."""
    lines, first = 0, len(turns)
    while first and len(turns) - first < PAGE:
        lines += _lines(getattr(turns[first - 1], "text", ""))
        if lines > ROOM and len(turns) - first >= _FEWEST:
            break
        first -= 1
    return turns[first:]


def _lines(text: str) -> int:
    """About as many lines as the text takes on the screen."""
    return text.count("\n") + len(text) // _WIDTH + 1


def widget_of(turn: Turn) -> Widget:
    """The widget that draws a turn of the history."""
    from tui.widgets.tool import ToolTurn
    from tui.widgets.turn import ReplyTurn, UserTurn  # Markdown is imported after the first paint

    version = (turn.version, turn.versions)
    if turn.role == "tool":
        return ToolTurn(turn.text, turn_id=turn.id)
    if turn.role == "assistant":
        return ReplyTurn(turn.text, state=turn.state, usage=turn.usage, turn_id=turn.id, version=version)
    return UserTurn(turn.text, role=turn.role, turn_id=turn.id, version=version)


def note(sentence: str) -> Widget:
    """A sentence of the program, as a widget."""
    from tui.widgets.turn import NoteTurn

    return NoteTurn(sentence)
