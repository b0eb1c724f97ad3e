"""Commands about what writes the replies: the model, its parameters, the system prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands.base import Command
from tui.figures import size
from tui.screens.parameters import PARAMETERS, Parameters
from tui.screens.pick import Pick, Row
from tui.screens.text import AskText

if TYPE_CHECKING:
    from assistant.reports import ModelStatus
    from tui.screens.chat import ChatScreen

_UNKNOWN = "what it takes is known when it is here"


async def model(screen: ChatScreen, argument: str) -> None:
    """Another model for the next replies; one that is not here is fetched first."""
    if not screen.desk.idle:
        raise UsageError(screen.desk.why_busy)
    if (chosen := argument or await _picked(screen)) is None:
        return
    screen.session.options = replace(screen.session.options, model=chosen)
    screen.desk.use_model()
    screen.notice(f"The next replies come from {chosen}, until you leave. To keep it: model in the settings.")


async def _picked(screen: ChatScreen) -> str | None:
    used = screen.session.options.model
    found = await screen.session.models(fit=True)
    rows = [Row(one.id, one.id, _where(one, used), one.verdict or _UNKNOWN) for one in found]
    first = used or next((one.id for one in found if one.default), None)
    return await screen.app.push_screen_wait(Pick("Models", rows, chosen=first))


def _where(one: ModelStatus, used: str | None) -> str:
    if one.id == used or (used is None and one.default):
        return "in use"
    return "here" if one.present else f"download {size(one.download_bytes)}" if one.download_bytes else "download"


async def _models(screen: ChatScreen) -> list[tuple[str, str]]:
    used = screen.session.options.model
    return [(one.id, _where(one, used)) for one in await screen.session.models()]


async def parameters(screen: ChatScreen, argument: str) -> None:
    """One parameter (without a value: as the settings say), or the dialog for all of them."""
    if not argument:
        said = await screen.app.push_screen_wait(Parameters(screen.session, screen.session.sampling))
        values = screen.session.sampling if said is None else said
    else:
        name, _, value = argument.partition(" ")
        if name not in PARAMETERS:
            raise UsageError(f"There is no parameter {name!r}. There are: {', '.join(PARAMETERS)}.")
        values = {**screen.session.sampling, name: value.strip()}
    values = {name: value for name, value in values.items() if value}
    screen.session.checked_sampling(values)
    screen.session.sampling = values
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    screen.notice(f"Until you leave: {shown}." if shown else "All parameters are as the settings say.")


async def _parameters(_screen: ChatScreen) -> list[tuple[str, str]]:
    return list(PARAMETERS.items())


async def system(screen: ChatScreen, argument: str) -> None:
    """What the model is told before everything else; only while nothing was said."""
    name = screen.desk.name
    if name is None or not screen.desk.idle:
        raise UsageError(screen.desk.why_busy)
    turns = await screen.session.first_turns(name) if await screen.desk.stored() else []
    if any(turn.role != "system" for turn in turns):
        raise UsageError("The system prompt stands before the first message and stays. Begin a new one: /new")
    before = screen.session.systems.get(name, turns[0].text if turns else "")
    said: str | None = argument
    if not argument:
        said = await screen.app.push_screen_wait(AskText("System prompt of this conversation", before))
    if said is None:
        return
    if turns:
        await screen.session.change(name, system=said)
    else:
        screen.session.systems[name] = said
    screen.notice("The system prompt stands before your first message." if said else "There is no system prompt.")


COMMANDS = (
    Command("model", "Model: what is here, and what fits", model, "[ID]", _models, key="model"),
    Command("set", "Parameters of the next replies", parameters, "[NAME [VALUE]]", _parameters, key="parameters"),
    Command("system", "System prompt of this conversation", system, "[TEXT]"),
)
