"""What can be completed where the cursor is: commands, their arguments, and files after an @. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LIMIT = 50
_COMMAND = re.compile(r"/([a-z-]*)")
_ARGUMENT = re.compile(r"/([a-z-]+) (.*)")
_FILE = re.compile(r'(?:^|(?<=\s))@("[^"]*|\S*)$')


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be put in place of what was typed."""

    text: str
    words: str = ""
    more: bool = False
    """Something has to be typed after it: accepting it sends nothing."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be put in place of everything from column `start` to the cursor."""

    start: int
    typed: str
    choices: tuple[Choice, ...]
    whole: bool = False
    """The message is a command: accepting a choice that needs nothing more may send it."""


def command_typed(text: str) -> str | None:
    """The beginning of a command's name, when that is all there is."""
    found = _COMMAND.fullmatch(text)
    return found[1] if found else None


def argument_typed(text: str) -> tuple[str, str] | None:
    """A command's name and what has been typed of its argument."""
    found = _ARGUMENT.fullmatch(text)
    return (found[1], found[2]) if found else None


def file_typed(line: str) -> str | None:
    """The beginning of a file's name after an @ that ends the line before the cursor."""
    found = _FILE.search(line)
    return found[1].removeprefix('"') if found else None


def commands_offer(typed: str, commands: Iterable[tuple[str, str]]) -> Offer:
    """Commands by the beginning of their names, then those with it anywhere."""
    found = _matching(typed, list(commands))
    choices = (Choice(f"/{name}", words) for name, words in found)
    return Offer(0, f"/{typed}", tuple(choices)[:LIMIT], whole=True)


def argument_offer(name: str, typed: str, options: Iterable[tuple[str, str]]) -> Offer:
    """What may be written after a command's name."""
    found = _matching(typed, list(options))
    choices = (Choice(f"/{name} {option}", words) for option, words in found)
    return Offer(0, f"/{name} {typed}", tuple(choices)[:LIMIT], whole=True)


def files_offer(line: str, names: Iterable[str]) -> Offer:
    """Files and folders that begin with what was typed; a name with spaces is put in quotes."""
    start = line.rindex("@")
    choices = (Choice(_quoted(name), "folder" if name.endswith("/") else "", name.endswith("/")) for name in names)
    return Offer(start, line[start:], tuple(choices)[:LIMIT])


def _matching(typed: str, options: list[tuple[str, str]]) -> list[tuple[str, str]]:
    wanted = typed.casefold()
    first = [one for one in options if one[0].casefold().startswith(wanted)]
    return first + [one for one in options if wanted in one[0].casefold() and one not in first]


def _quoted(name: str) -> str:
    return f'@"{name}' + ("" if name.endswith("/") else '"') if " " in name else f"@{name}"
