"""Commands about conversations: which is open, what it is called, where it branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands.base import Command
from tui.screens.dialogs import AskLine

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen

NAME_LIMIT = 80


async def new(screen: ChatScreen, argument: str) -> None:
    """An empty conversation, under a name of its own if one is given."""
    await screen.desk.new(argument)


async def choose(screen: ChatScreen, argument: str) -> None:
    """The list of conversations, or one of them at once."""
    if argument:
        await screen.desk.go(argument)
    else:
        await screen.desk.switch()


async def rename(screen: ChatScreen, argument: str) -> None:
    """Another name for the open conversation."""
    old = screen.desk.name
    if old is None or not await screen.desk.stored():
        raise UsageError("This conversation is stored with its first message; then it can be renamed.")
    if not (wanted := argument):
        asked = await screen.app.push_screen_wait(AskLine(f"A new name for “{old}”", old, NAME_LIMIT))
        wanted = asked or old
    if wanted != old:
        await screen.desk.rename(wanted)


async def names(screen: ChatScreen) -> list[tuple[str, str]]:
    """Every conversation, with what it is about."""
    return [(one.name, one.title) for one in await screen.session.conversations()]


COMMANDS = (
    Command("new", "New conversation", new, "[NAME]", key="new"),
    Command("open", "Conversations: open, rename, delete", choose, "[NAME]", names, key="conversations"),
    Command("rename", "Rename this conversation", rename, "[NAME]"),
)
