"""Commands about the program itself: its looks, its help, leaving it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.errors import UsageError
from assistant.places import find_places
from tui import themes
from tui.commands.base import Command
from tui.editor import edited
from tui.screens.help import HelpScreen
from tui.screens.log import LogScreen
from tui.screens.pick import Pick, Row
from tui.text import clean, one_line
from tui.widgets.turn import ReplyTurn

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


async def history(screen: ChatScreen, _argument: str) -> None:
    """Bring an earlier message of any conversation into the prompt."""
    said = (await screen.session.prompts())[::-1]
    if not said:
        raise UsageError("Nothing was written yet.")
    rows = [Row(str(at), one_line(text, 300)) for at, text in enumerate(said)]
    chosen = await screen.app.push_screen_wait(Pick("Earlier messages", rows))
    if chosen is not None:
        screen.prompt.give_back(said[int(chosen)])


async def edit(screen: ChatScreen, _argument: str) -> None:
    """The message in the prompt, in the user's own editor."""
    if screen.view.busy:
        raise UsageError(screen.desk.why_busy)
    text = edited(screen.app, screen.prompt.message)
    screen.prompt.clear_all()
    screen.prompt.give_back(clean(text))
    screen.app.refresh(layout=True)


async def log(screen: ChatScreen, _argument: str) -> None:
    """The daemon's log."""
    screen.app.push_screen(LogScreen(find_places().log))


async def show_help(screen: ChatScreen, _argument: str) -> None:
    """Keys and commands."""
    screen.app.push_screen(HelpScreen(screen.session.preferences.keys))


async def reasoning(screen: ChatScreen, _argument: str) -> None:
    """Show or fold the reasoning of all replies, those to come too."""
    screen.transcript.toggle_class("-reasoning")
    for reply in screen.transcript.query(ReplyTurn):
        reply.unfold(screen.transcript.has_class("-reasoning"))


async def leave(screen: ChatScreen, _argument: str) -> None:
    """Quit."""
    screen.app.exit()


COMMANDS = (
    Command("stop", "Stop the reply and keep it", stop, key="stop"),
    Command("older", "Load older turns", older, key="older"),
    Command("end", "To the end, and follow it", end, key="end"),
    Command("history", "Earlier messages of all conversations", history, key="history"),
    Command("editor", "Write the message in your own editor", edit, key="editor"),
    Command("log", "The daemon's log", log, key="log"),
    Command("reasoning", "Show or fold the reasoning of replies", reasoning, key="reasoning"),
    Command("theme", "Colours", theme, "[NAME]", _themes),
    Command("help", "Keys and commands", show_help, key="help"),
    Command("quit", "Quit", leave, key="quit"),
)
