"""The commands of the chat: one table for the prompt (`/name`), its completion, the command palette and the help."""

from __future__ import annotations

import re
from difflib import get_close_matches

from tui.commands import copying, programme, shelf, tree
from tui.commands.base import Command

COMMANDS: tuple[Command, ...] = (*shelf.COMMANDS, *tree.COMMANDS, *copying.COMMANDS, *programme.COMMANDS)

_SHAPE = re.compile(r"/([a-z][a-z-]*)(?:\s+(.*))?", re.DOTALL)


def find(name: str) -> Command | None:
    """The command of this name."""
    return next((one for one in COMMANDS if one.name == name), None)


def parse(text: str) -> tuple[str, str] | None:
    """Name and argument, when the text has the shape of a command; `/usr/bin` and ` /new` have not."""
    found = _SHAPE.fullmatch(text.rstrip())
    return (found[1], (found[2] or "").strip()) if found else None


def unknown(name: str) -> str:
    """What to say about a name that is none."""
    near = get_close_matches(name, [one.name for one in COMMANDS], n=1, cutoff=0.0)[0]
    return f"There is no command /{name}; the nearest is /{near}. With a space in front it is sent as text."
