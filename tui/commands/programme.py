"""Commands about the program itself: its looks, its help, leaving it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui import themes
from tui.commands.base import Command
from tui.screens.pick import Pick, Row

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen


async def theme(screen: ChatScreen, argument: str) -> None:
    """Other colours, until the program ends."""
    name = argument or await _chosen_theme(screen)
    if name is None:
        return
    if name not in themes.names():
        raise UsageError(f"There is no theme {name!r}. Ours: {', '.join(themes.OWN)}.")
    screen.app.theme = name
    screen.notice(f'Theme {name}, until you leave. To keep it: theme = "{name}" in the settings.')


async def _chosen_theme(screen: ChatScreen) -> str | None:
    rows = [Row(name, name, words) for name, words in await _themes(screen)]
    return await screen.app.push_screen_wait(Pick("Themes", rows, chosen=screen.app.theme))


async def _themes(screen: ChatScreen) -> list[tuple[str, str]]:
    here = screen.app.theme
    return [(name, "in use" if name == here else themes.words(name)) for name in themes.names()]


async def end(screen: ChatScreen, _argument: str) -> None:
    """The newest line, and those that follow."""
    await screen.desk.opened.end()


async def older(screen: ChatScreen, _argument: str) -> None:
    """A page of older turns."""
    await screen.desk.opened.older()


async def stop(screen: ChatScreen, _argument: str) -> None:
    """Stop the reply and keep it."""
    await screen.desk.stop()


async def show_help(screen: ChatScreen, _argument: str) -> None:
    """Keys and commands."""
    screen.action_help()


async def leave(screen: ChatScreen, _argument: str) -> None:
    """Quit."""
    screen.app.exit()


COMMANDS = (
    Command("stop", "Stop the reply and keep it", stop, key="stop"),
    Command("older", "Load older turns", older, key="older"),
    Command("end", "To the end, and follow it", end, key="end"),
    Command("theme", "Colours", theme, "[NAME]", _themes),
    Command("help", "Keys and commands", show_help, key="help"),
    Command("quit", "Quit", leave, key="quit"),
)
