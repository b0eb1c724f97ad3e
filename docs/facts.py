"""What the reference pages say, in no form yet: commands, exit codes, files and variables of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import memory
from assistant.agent.policy import POLICY_FILE
from assistant.cli import COMMANDS, _all, _command
from assistant.errors import Exit
from assistant.places import Places
from assistant.settings import PROJECT_FILE, Settings
from tui import flags

PREFIX = str(Settings.model_config["env_prefix"])
EXITS = {
    Exit.OK: "ok",
    Exit.FAILED: "run failed",
    Exit.USAGE: "usage or configuration",
    Exit.LIMIT: "turn or token limit",
    Exit.DENIED: "a denied tool was needed",
    Exit.BUDGET: "the budget cannot be met",
    Exit.MODEL: "model missing or not loadable",
    Exit.DAEMON: "daemon unreachable or incompatible",
    Exit.TIMEOUT: "timeout",
    Exit.SIGINT: "Ctrl+C",
    Exit.SIGTERM: "SIGTERM",
}
PLACES = Places(
    config=Path("~/.config/assistant"),
    data=Path("~/.local/share/assistant"),
    state=Path("~/.local/state/assistant"),
    cache=Path("~/.cache/assistant"),
    runtime=Path("$XDG_RUNTIME_DIR/assistant"),
    models=Path("~/.local/share/assistant/models"),
)
"""The folders on Linux, while no variable moves them."""
FILES: tuple[tuple[Callable[[Places], Path], str], ...] = (
    (lambda _: Path(PROJECT_FILE), "Settings of the working folder."),
    (lambda places: places.user_settings, "Your settings."),
    (lambda places: places.user_catalog, "Models that you add to the catalogue, or describe otherwise."),
    (lambda places: places.config / POLICY_FILE, "Your rules for the calls of tools."),
    (lambda places: places.history, "Every conversation."),
    (lambda places: places.models, "Pulled models."),
    (lambda places: places.kv, "Stored KV. All of it can be read again: it may be deleted while no daemon runs."),
    (lambda places: places.token, "The token of clients that come over TCP."),
    (lambda places: places.log, "The daemon's log, without the text of messages."),
    (lambda places: places.socket, "The daemon's socket."),
)
VARIABLES = {
    "ASSISTANT_HOME": "One folder for everything.",
    "ASSISTANT_MODELS": "The folder of pulled models alone.",
    "XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR": "Where the folders of all programs are.",
    "VISUAL, EDITOR": "The editor in which the chat lets you write a message.",
    "NO_COLOR": "Takes the colours of the chat away.",
}


@dataclass(frozen=True, slots=True)
class Word:
    """An option of a command, or an argument, which has no names."""

    names: tuple[str, ...]
    value: str
    default: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A command; or a group of them, which has neither usage nor words nor examples."""

    name: str
    usage: str
    paragraphs: tuple[str, ...]
    words: tuple[Word, ...]
    examples: tuple[str, ...]


def entries() -> Iterator[Entry]:
    """The commands as the general help orders them, each group before what is in it."""
    tree = _command(_all())
    for name in COMMANDS:
        yield from _below(f"assistant {name}", tree.commands[name])


def _below(name: str, command: Any) -> Iterator[Entry]:
    inner = getattr(command, "commands", {})
    words = () if inner else _words(name, command)
    paragraphs = tuple(" ".join(one.split()) for one in command.help.split("\n\n"))
    examples = re.split(r" {2,}", (command.epilog or "").removeprefix("Example: "))
    yield Entry(name, _usage(name, command, words), paragraphs, words, tuple(filter(None, examples)))
    for word, one in inner.items():
        yield from _below(f"{name} {word}", one)


def _words(name: str, command: Any) -> tuple[Word, ...]:
    words = tuple(_word(one) for one in command.params if not one.hidden)
    return (*words, *_of_the_app(words)) if name == "assistant chat" else words


def _usage(name: str, command: Any, words: Iterable[Word]) -> str:
    if not (words := tuple(words)):
        return ""
    parts = [name, *(one.value for one in words if not one.names)]
    parts += ["[OPTIONS]"] if any(one.names for one in words) else []
    return " ".join(parts + (["[...]"] if command.context_settings.get("allow_extra_args") else []))


def _word(given: Any) -> Word:
    choices = [str(getattr(one, "value", one)) for one in given.type_descriptor.choices or ()]
    option = given.param_type_name == "option"
    return Word(
        tuple(sorted(given.opts, key=len, reverse=True)) if option else (),
        _option_value(given, choices) if option else _argument(given),
        "" if given.default in (None, False) else str(getattr(given.default, "value", given.default)),
        _meaning(given, choices),
    )


def _option_value(given: Any, choices: list[str]) -> str:
    return "" if given.is_flag else given.metavar or "|".join(choices)


def _argument(given: Any) -> str:
    name = given.metavar or given.name.upper()
    return name if given.required else f"[{name.strip('[]')}]"


def _meaning(given: Any, choices: list[str]) -> str:
    text = given.help or " · ".join(f"`{one}`" for one in choices)
    limits = bounds({"minimum": given.min, "maximum": given.max})
    return f"{text} {limits.capitalize()}." if limits else text


def _of_the_app(known: Iterable[Word]) -> Iterator[Word]:
    """What the terminal app takes beyond `chat --plain`, which alone is a command like the others."""
    names = {name for one in known for name in one.names} | {"--help"}
    for action in flags._parser()._actions:
        if names.isdisjoint(action.option_strings):
            text = re.sub(r" \(default: .*\)", "", action.help or "")
            default = str(action.default) if action.default else ""
            yield Word(
                tuple(action.option_strings), str(action.metavar or ""), default, f"{text[:1].upper()}{text[1:]}."
            )


def policy_lines() -> Iterator[tuple[str, str]]:
    """The selection policies in the order of their table, and the first line of each one's file; parsed, as they import
    torch."""
    folder = Path(memory.__file__).parent / "policy"
    (table,) = [one for one in _parsed(folder / "__init__.py").body if isinstance(one, ast.AnnAssign)]
    assert isinstance(table.value, ast.Dict)
    for name in [ast.literal_eval(key) for key in table.value.keys if key]:
        yield name, (ast.get_docstring(_parsed(folder / f"{name}.py")) or "").partition("\n")[0]


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def bounds(schema: Mapping[str, Any]) -> str:
    """The range of a number in words; nothing where it has none."""
    low, above, high, below = (schema.get(name) for name in _BOUNDS)
    if None not in (low, high):
        return f"{_number(low)} to {_number(high)}"
    words = (("at least", low), ("above", above), ("at most", high), ("below", below))
    return ", ".join(f"{word} {_number(value)}" for word, value in words if value is not None)


def _number(value: Any) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
