"""Commands about the branches of a conversation: go back, write again, fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.errors import UsageError
from tui.commands.base import Command

if TYPE_CHECKING:
    from tui.screens.chat import ChatScreen


async def rewind(screen: ChatScreen, _argument: str) -> None:
    """Choose an earlier message, change it, send it in its place."""
    await screen.branches.rewind()


async def regenerate(screen: ChatScreen, _argument: str) -> None:
    """Another reply to the last message."""
    await screen.branches.regenerate()


async def fork(screen: ChatScreen, argument: str) -> None:
    """A new conversation that begins like this one."""
    await screen.branches.fork(None, argument)


async def select(screen: ChatScreen, _argument: str) -> None:
    """Step to the last turn, to act on it."""
    if (last := screen.transcript.last_turn) is None:
        raise UsageError("Nothing has been said in this conversation yet.")
    screen.transcript.step(last, 0)


COMMANDS = (
    Command("rewind", "Go back to an earlier message and change it", rewind, key="stop"),
    Command("regenerate", "Write the last reply again", regenerate, key="regenerate"),
    Command("fork", "Fork: a copy of this conversation that goes its own way", fork, "[NAME]"),
    Command("select", "Step to the turns, to act on one", select, key="select"),
)
