"""Looks at what is being typed in the prompt, and offers what can complete it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import AssistantError
from tui.completion import (
    Choice,
    Offer,
    argument_offer,
    argument_typed,
    command_typed,
    commands_offer,
    file_typed,
    files_offer,
)
from tui.files import matching
from tui.widgets.choices import Choices

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen


class Completer:
    """One per chat screen; `look` is called after every change of the prompt."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._choices: Choices | None = None

    async def look(self) -> None:
        """Offer what completes the text at the cursor, or nothing."""
        offer = await self._offer()
        if offer is None and self._choices is None:
            return
        (await self._list()).show(offer)

    def _take(self, offer: Offer, choice: Choice, send: bool) -> None:
        self._screen.prompt.complete(offer.start, choice.text)
        if send:
            self._screen.prompt.action_send()

    async def _offer(self) -> Offer | None:
        prompt = self._screen.prompt
        row, column = prompt.cursor_location
        line = prompt.document.get_line(row)[:column]
        if prompt.cursor_at_end_of_text and prompt.document.line_count == 1 and line.startswith("/"):
            return await self._command_offer(line)
        if (typed := file_typed(line)) is not None:
            return files_offer(line, await asyncio.to_thread(matching, typed, Path.cwd()))
        return None

    async def _command_offer(self, line: str) -> Offer | None:
        from tui.commands import COMMANDS, find

        if (typed := command_typed(line)) is not None:
            return commands_offer(typed, [(one.name, one.words) for one in COMMANDS])
        if (argument := argument_typed(line)) is None:
            return None
        command = find(argument[0])
        if command is None or command.options is None:
            return None
        try:
            return argument_offer(*argument, await command.options(self._screen))
        except AssistantError:  # the daemon is not there: nothing to offer, and the command itself will say so
            return None

    async def _list(self) -> Choices:
        if self._choices is None:
            self._choices = Choices(self._take)
            await self._screen.mount(self._choices, before=self._screen.prompt)
            self._screen.prompt.choices = self._choices
        return self._choices
