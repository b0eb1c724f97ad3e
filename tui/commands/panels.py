"""Commands that open the memory panels, and what is done with what those give."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands.base import Command

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen


async def memory(screen: ChatScreen, _argument: str = "") -> None:
    """Where every byte lies (F2)."""
    from tui.screens.memory import MemoryScreen

    await screen.app.push_screen_wait(MemoryScreen(screen.session, screen.desk.name))


async def episodes(screen: ChatScreen, _argument: str = "") -> None:
    """The map of the open conversation (F3), and to the turn that was chosen on it."""
    from tui.screens.episodes import EpisodesScreen

    turn = await screen.app.push_screen_wait(EpisodesScreen(screen.session, screen.desk.name))
    if turn is not None:
        await _go(screen, turn)


async def why(screen: ChatScreen, argument: str = "") -> None:
    """What the last reply was given (F4), or that of the turn whose number is `argument`."""
    from tui.screens.why import WhyScreen

    if argument and not argument.isdecimal():
        raise UsageError(f"{argument[:40]!r} is no turn: write its number, or nothing for the last one.")
    asked = int(argument) if argument else None
    turn = await screen.app.push_screen_wait(WhyScreen(screen.session, screen.desk.name, asked))
    if turn is not None:
        await _go(screen, turn)


async def budget(screen: ChatScreen, argument: str = "") -> None:
    """Another budget for the next turns (Ctrl+B), after a look at its plan; with `argument` at once."""
    from tui.screens.budget import BudgetScreen

    session = screen.session
    before = (await session.memory()).memory.budget
    if argument:
        await session.plan(argument)
    earlier = session.earlier[-1] if session.earlier else None
    chosen: str | None = argument
    if not chosen:
        chosen = await screen.app.push_screen_wait(BudgetScreen(session, screen.view.stored, earlier))
    if chosen is None:
        return
    if chosen == earlier:
        session.earlier.pop()
    elif before:
        session.earlier.append(_written(before))
    session.options = replace(session.options, budget=chosen)
    screen.notice(f"The budget is {chosen} from the next message on. ^b and then ^z takes that back.")


async def _go(screen: ChatScreen, turn: int) -> None:
    """To a turn of the open conversation."""
    if not screen.desk.idle:
        screen.notice(screen.desk.why_busy)
    elif screen.desk.name is not None:
        await screen.desk.opened.open_at(screen.desk.name, turn)


def _written(size: int) -> str:
    from assistant.views.plan import written

    return written(size)


COMMANDS = (
    Command("memory", "Memory: where every byte lies", memory, key="memory"),
    Command("map", "The episode map of this conversation", episodes, key="map"),
    Command("why", "Why: what a reply was given", why, "[TURN]", key="why"),
    Command("budget", "Another budget, with a look at its plan", budget, "[SIZE]", key="budget"),
)
