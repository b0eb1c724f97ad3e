"""The conversation switcher: filter, open, rename, pin, archive, put away and bring back."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from assistant.errors import AssistantError
from tui.figures import plural, when
from tui.screens.dialogs import AskLine
from tui.screens.modal import Modal
from tui.session import Session
from tui.text import one_line
from tui.widgets.line import Line

if TYPE_CHECKING:
    from assistant.protocol import Conversation

_NAME_LIMIT = 80
_KEYS = "enter opens · ↓ list · in the list: r rename, p pin, a archive, v show archived, d delete, u undo · esc back"
_AWAY = "“{}” is put away, and removed for good in 30 days · u brings it back"


class ConversationList(OptionList):
    """The list; its letters are keys only while it has the focus, so that the filter can be typed."""

    BINDINGS = [
        Binding("r,f2", "screen.rename", "Rename", key_display="r", id="list-rename"),
        Binding("p", "screen.pin", "Pin, or no longer", id="list-pin"),
        Binding("a", "screen.archive", "Archive, or no longer", id="list-archive"),
        Binding("v", "screen.archived", "Show archived ones too, or not", id="list-archived"),
        Binding(
            "d,delete", "screen.delete", "Delete; it can be brought back for 30 days", key_display="d", id="list-delete"
        ),
        Binding("u", "screen.undo", "Bring back what was deleted last", id="list-undo"),
        Binding("slash", "screen.filter", "Filter", key_display="/", id="list-filter"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There are no pages where the terminal is too small to show a row."""
        if action.startswith("page") and not self.scrollable_content_region:
            return False
        return super().check_action(action, parameters)

    def action_cursor_up(self) -> None:
        if self.highlighted in (None, 0):
            self.screen.query_one(Input).focus()
        else:
            super().action_cursor_up()


class Switcher(Modal[str | None]):
    """Gives the name of the conversation to open, or None for the one that is open."""

    CSS_PATH = "../sheet.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "list", "To the list", key_display="↓"),
    ]

    def __init__(self, session: Session, current: str | None) -> None:
        super().__init__()
        self._session = session
        self._current = current
        self._all: list[Conversation] = []
        self._archived = False
        self._away: list[tuple[str, bool]] = []
        """What was put away here, and whether it was the open one; the last at the end."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet"):
            yield Static("Conversations", classes="heading", markup=False)
            yield Line(placeholder="type to filter")
            yield ConversationList(markup=False)
            yield Static("", classes="said", markup=False)
            yield Static(_KEYS, classes="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(".said").display = False
        self.query_one(Input).focus()
        self.load()

    def on_resize(self) -> None:
        self.soon(self._show)

    @property
    def current(self) -> str | None:
        """The open conversation's name, which may have been changed here; None when it was deleted."""
        return self._current

    @work(exclusive=True, exit_on_error=False)
    async def load(self) -> None:
        """Read the list from the daemon and show what the filter lets through."""
        try:
            self._all = await self._session.conversations(archived=self._archived)
        except AssistantError as error:
            self._say(str(error))
            return
        self.soon(self._show)

    @on(Input.Changed)
    def _filter(self) -> None:
        self.query_one(ConversationList).highlighted = None
        self._show()

    def _show(self) -> None:
        words = self.query_one(Input).value.casefold().split()
        found = [one for one in self._all if all(word in f"{one.name} {one.title}".casefold() for word in words)]
        options = self.query_one(ConversationList)
        at = options.highlighted or 0
        options.clear_options()
        now = datetime.now().astimezone()
        width = max(options.content_size.width - 1, 20)
        options.add_options([Option(_row(one, now, width, one.name == self._current), id=one.id) for one in found])
        options.highlighted = min(at, len(found) - 1) if found else None
        self.query_one(".heading", Static).update(f"Conversations · {len(found)} of {len(self._all)}")

    @on(Input.Submitted)
    def _open_first(self) -> None:
        if chosen := self._chosen():
            self.dismiss(chosen.name)

    @on(OptionList.OptionSelected)
    def _open(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._named(event.option_id))

    def action_list(self) -> None:
        self.query_one(ConversationList).focus()

    def action_filter(self) -> None:
        self.query_one(Input).focus()

    @work(exit_on_error=False)
    async def action_rename(self) -> None:
        if (chosen := self._chosen()) is None:
            return
        name = await self.app.push_screen_wait(AskLine(f"A new name for “{chosen.name}”", chosen.name, _NAME_LIMIT))
        if name is None or name == chosen.name:
            return
        if await self._done(self._session.rename(chosen.name, name), "") and chosen.name == self._current:
            self._current = name

    @work(exit_on_error=False)
    async def action_pin(self) -> None:
        if chosen := self._chosen():
            await self._done(self._session.change(chosen.name, pinned=not chosen.pinned), "")

    @work(exit_on_error=False)
    async def action_archive(self) -> None:
        if chosen := self._chosen():
            said = "" if chosen.archived else f"“{chosen.name}” is archived · v shows archived ones"
            await self._done(self._session.change(chosen.name, archived=not chosen.archived), said)

    def action_archived(self) -> None:
        self._archived = not self._archived
        self.load()

    @work(exit_on_error=False)
    async def action_delete(self) -> None:
        if (chosen := self._chosen()) is None:
            return
        if await self._done(self._session.remove(chosen.name), _AWAY.format(one_line(chosen.name, 40))):
            self._away.append((chosen.name, chosen.name == self._current))
            self._current = None if chosen.name == self._current else self._current

    @work(exit_on_error=False)
    async def action_undo(self) -> None:
        if not self._away:
            self._say("Nothing was deleted here.")
            return
        name, was_open = self._away.pop()
        if await self._done(self._session.restore(name), f"“{one_line(name, 40)}” is back.") and was_open:
            self._current = name

    async def _done(self, deed: Awaitable[object], said: str) -> bool:
        """Do it and show the list as it is then; whether it could be done."""
        try:
            await deed
        except AssistantError as error:
            self._say(str(error))
            return False
        self._say(said)
        self.load()
        return True

    def _chosen(self) -> Conversation | None:
        options = self.query_one(ConversationList)
        if options.highlighted is None:
            return None
        wanted = options.get_option_at_index(options.highlighted).id
        return next((one for one in self._all if one.id == wanted), None)

    def _named(self, wanted: str | None) -> str | None:
        return next((one.name for one in self._all if one.id == wanted), None)

    def _say(self, sentence: str) -> None:
        line = self.query_one(".said", Static)
        line.update(sentence)
        line.display = bool(sentence)


def _row(one: Conversation, now: datetime, width: int, current: bool) -> Content:
    """Name and title on the left, turns and date on the right."""
    state = "pinned  " if one.pinned else "archived" if one.archived else ""
    right = f"{state}{plural(one.turns, 'turn'):>11}  {when(one.updated, now):>11}"
    name = one_line(one.name, max(width - len(right) - 4, 8))
    room = width - len(right) - cell_len(name) - 6
    title = one_line(one.title, room) if room > 8 and one.title != one.name else ""
    left = f"{name}  {title}" if title else name
    gap = " " * max(width - 2 - cell_len(left) - len(right), 1)
    parts: list[tuple[str, str]] = [("• " if current else "  ", "$accent"), (name, "bold" if current else "")]
    if title:
        parts.append((f"  {title}", "dim"))
    return Content.assemble(*parts, (gap + right, "dim"))
