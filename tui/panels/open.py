"""How the chat opens the memory panels, and what it does with what they give. Called with the chat screen, and with
what may stand after a slash command (nothing, where a key was pressed)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from assistant.errors import UsageError

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
        await screen.desk.show(turn)


async def why(screen: ChatScreen, argument: str = "") -> None:
    """What the last reply was given (F4), or that of the turn whose number is `argument`."""
    from tui.screens.why import WhyScreen

    if argument and not argument.isdecimal():
        raise UsageError(f"{argument[:40]!r} is no turn: write its number, or nothing for the last one.")
    asked = int(argument) if argument else None
    turn = await screen.app.push_screen_wait(WhyScreen(screen.session, screen.desk.name, asked))
    if turn is not None:
        await screen.desk.show(turn)


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


def _written(size: int) -> str:
    from tui.panels.budget import written

    return written(size)


PANELS: dict[str, Callable[[ChatScreen, str], Awaitable[None]]] = {
    "memory": memory,
    "map": episodes,
    "why": why,
    "budget": budget,
}
