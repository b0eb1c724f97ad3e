"""What becomes of a text that was sent from the prompt: a command, another version of a turn, or a message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands import find, parse, unknown
from tui.files import addresses, attach

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

_QUEUED = "One message is queued already; this one stays in the prompt."


class Outbox:
    """One per chat screen. What cannot be sent goes back into the prompt, and why is said."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen

    async def take(self, text: str) -> None:
        """Do with a text what it is for; the screen goes on while a web address is asked."""
        if found := addresses(text):
            self._screen.notice(f"Fetching {', '.join(found)} …")
            self._screen.run_worker(self._take(text), group="address", exit_on_error=False)
        else:
            await self._take(text)

    async def _take(self, text: str) -> None:
        try:
            if (said := parse(text)) is not None:
                self._command(*said)
            else:
                await self._message(text)
        except UsageError as error:
            self._screen.prompt.give_back(text)
            self._screen.notice(str(error))

    def _command(self, name: str, argument: str) -> None:
        if find(name) is None:
            raise UsageError(unknown(name))
        self._screen.action_do(name, argument)

    async def _message(self, text: str) -> None:
        full = await asyncio.to_thread(attach, text, Path.cwd()) if "@" in text else text
        if self._screen.branches.editing is not None:
            await self._screen.branches.send(full)
        elif not self._screen.desk.send(full):
            raise UsageError(_QUEUED)
