"""What a command of the chat is: a name after a slash, a sentence, and what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

Run = Callable[["ChatScreen", str], Awaitable[None]]
"""Does it, given what was written after the name (empty when nothing was, as from the palette)."""
Options = Callable[["ChatScreen"], Awaitable[list[tuple[str, str]]]]
"""What may be written after the name, each with a word about it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table that prompt, palette and help share."""

    name: str
    words: str
    run: Run
    argument: str = ""
    """How its argument is written in the help; every command also works without one."""
    options: Options | None = None
    key: str = ""
    """The id of the binding of the chat screen that does the same."""
