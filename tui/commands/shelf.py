"""Commands about conversations: which is open, what it is called, where it branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands.base import Command
from tui.screens.dialogs import AskLine
from tui.screens.search import SearchScreen

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


async def search(screen: ChatScreen, argument: str) -> None:
    """Look for words in all conversations, and go to what was found."""
    if not screen.desk.idle:
        raise UsageError(screen.desk.why_busy)
    found = await screen.app.push_screen_wait(SearchScreen(screen.session, argument))
    if found is not None:
        await screen.desk.opened.open_at(*found)


async def duplicate(screen: ChatScreen, argument: str) -> None:
    """A copy of everything under another name; the open conversation stays open."""
    name = screen.desk.name
    if name is None or not await screen.desk.stored():
        raise UsageError("This conversation is stored with its first message; then it can be duplicated.")
    made = await screen.session.fork(name, None, argument or None)
    screen.notice(f"“{name}” is there once more as “{made.name}”.")


async def pin(screen: ChatScreen, _argument: str) -> None:
    """On top of the list, or no longer."""
    one = await screen.desk.conversation()
    await screen.session.change(one.name, pinned=not one.pinned)
    screen.notice(f"“{one.name}” is {'no longer pinned' if one.pinned else 'pinned: it stays on top of the list'}.")


async def archive(screen: ChatScreen, _argument: str) -> None:
    """Out of the list, or back into it."""
    one = await screen.desk.conversation()
    await screen.session.change(one.name, archived=not one.archived)
    screen.notice(f"“{one.name}” is {'back in the list' if one.archived else 'archived: v in the list shows it'}.")


async def delete(screen: ChatScreen, _argument: str) -> None:
    """Put the open conversation away, and open another."""
    one = await screen.desk.conversation()
    if not screen.desk.idle:
        raise UsageError(screen.desk.why_busy)
    await screen.session.remove(one.name)
    await screen.desk.opened.open(await screen.desk.opened.last_used())
    screen.notice(f"“{one.name}” is put away for 30 days. To bring it back: /restore {one.name}")


async def restore(screen: ChatScreen, argument: str) -> None:
    """Bring back what was put away."""
    if not argument:
        raise UsageError("Write the name of what was put away: /restore NAME")
    await screen.session.restore(argument)
    await screen.desk.go(argument)


async def _away(screen: ChatScreen) -> list[tuple[str, str]]:
    return [(one.name, one.title) for one in await screen.session.put_away()]


async def names(screen: ChatScreen) -> list[tuple[str, str]]:
    """Every conversation, with what it is about."""
    return [(one.name, one.title) for one in await screen.session.conversations()]


COMMANDS = (
    Command("new", "New conversation", new, "[NAME]", key="new"),
    Command("open", "Conversations: open, rename, pin, delete", choose, "[NAME]", names, key="conversations"),
    Command("search", "Search in all conversations", search, "[WORDS]", key="search"),
    Command("rename", "Rename this conversation", rename, "[NAME]"),
    Command("duplicate", "Duplicate this conversation", duplicate, "[NAME]"),
    Command("pin", "Pin this conversation, or no longer", pin),
    Command("archive", "Archive this conversation, or no longer", archive),
    Command("delete", "Delete this conversation; it can be brought back for 30 days", delete),
    Command("restore", "Bring back a deleted conversation", restore, "NAME", _away),
)
