"""The open conversation: its name, which of its turns are on the screen, and moving among them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.session import DEFAULT_NAME, Session
from tui.state import opened
from tui.text import one_line
from tui.widgets.prompt import Prompt
from tui.widgets.status import Title
from tui.widgets.transcript import PAGE

if TYPE_CHECKING:
    from assistant.protocol import Conversation, Turn
    from tui.screens.chat import ChatScreen

_READ = 500
"""Turns asked for at once while one of them is looked for."""
_AFTER = 3
"""Turns that are shown after one that was jumped to."""


class Opened:
    """What the chat screen shows the turns of."""

    def __init__(self, screen: ChatScreen, session: Session) -> None:
        self._screen = screen
        self._session = session
        self.name: str | None = None
        """None until the daemon is reached."""
        self.about = ""
        self.fresh = False
        """Nothing has been answered since it was opened."""
        self._drawing = asyncio.Lock()

    async def open(self, name: str) -> None:
        """Show the newest turns of a conversation, which need not exist yet."""
        known = (await self.known()).get(name)
        turns = await self._session.turns(name, limit=PAGE) if known else []
        await self._show(name, known, turns, known.turns - len(turns) if known else 0)

    async def open_at(self, name: str, turn_id: int) -> None:
        """Show a conversation at one of its turns, in the version that has it, and select it."""
        turns = await self._back_to(name, turn_id)
        if all(turn.id != turn_id for turn in turns):
            await self._session.choose(name, turn_id)
            turns = await self._back_to(name, turn_id)
        at = next((at for at, turn in enumerate(turns) if turn.id == turn_id), None)
        if at is None:
            raise UsageError("This turn is not there any more.")
        known = (await self.known()).get(name)
        shown = turns[: at + _AFTER + 1]
        older = known.turns - len(turns) if known else 0
        await self._show(name, known, shown, older, newer=len(turns) - len(shown))
        self._screen.transcript.select(turn_id)

    async def older(self) -> None:
        """Put a page of older turns above the others."""
        transcript = self._screen.transcript
        first = transcript.first_id
        if self.name is None or first is None or not transcript.hidden:
            self._screen.notice("There are no older turns.")
            return
        await transcript.prepend(await self._session.turns(self.name, before=first, limit=PAGE))

    async def end(self) -> None:
        """Go to the newest turn and stay there."""
        if self._screen.transcript.newer and self.name is not None:
            await self.open(self.name)
        self._screen.transcript.follow()

    async def known(self) -> dict[str, Conversation]:
        """Every conversation by its name."""
        return {one.name: one for one in await self._session.conversations(archived=True)}

    async def last_used(self) -> str:
        """The conversation to begin with."""
        found = await self._session.conversations()
        return max(found, key=lambda one: one.updated).name if found else DEFAULT_NAME

    def named(self, name: str, known: Conversation | None) -> None:
        """Say above the transcript what is open."""
        self.name = name
        self.about = known.title if known else ""
        self._screen.query_one(Title).show(one_line(name, 60), one_line(self.about, 200))

    async def _show(self, name: str, known: Conversation | None, turns: list[Turn], older: int, newer: int = 0) -> None:
        """Once begun it is done, also when the next key replaces what asked for it: never half a conversation."""
        await asyncio.shield(self._draw(name, known, turns, older, newer))

    async def _draw(self, name: str, known: Conversation | None, turns: list[Turn], older: int, newer: int) -> None:
        async with self._drawing:
            await self._screen.transcript.open(turns, older, newer)
            self._screen.branches.keep()
            own = [turn.text for turn in turns if turn.role == "user"]
            others = [text for text in await self._session.prompts() if text not in own]
            self._screen.query_one(Prompt).remember(others + own)
            self.named(name, known)
            self.fresh = True
            self._screen.change(lambda view: opened(view, turns))

    async def _back_to(self, name: str, turn_id: int) -> list[Turn]:
        """The turns of the path from one at or before `turn_id` to the end."""
        turns = page = await self._session.turns(name, limit=_READ)
        while page and turns[0].id > turn_id:
            page = await self._session.turns(name, before=turns[0].id, limit=_READ)
            turns = page + turns
        return turns
