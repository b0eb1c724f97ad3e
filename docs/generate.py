"""The reference pages, written from the code: settings, keys, commands, and the man page.

    python docs/generate.py [FOLDER]

Writes `configuration.md`, `keys.md`, `commands.md`, `policies.md` and `assistant.1` to FOLDER (default: the folder of
this file). They are made of the tables that the program itself uses, and of nothing that differs between machines,
homes or terminals.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facts import EXITS, FILES, PLACES, PREFIX, VARIABLES, Entry, Word, bounds, entries, policy_lines
from manpage import man_page
from pydantic import BaseModel

from assistant.agent.policy import POLICY_FILE, Rule
from assistant.commands.spoken import COMMANDS as SPOKEN
from assistant.entry import ModelEntry, Shape
from assistant.errors import Exit
from assistant.places import find_places
from assistant.settings import PROJECT_FILE, Settings
from tui.commands import COMMANDS as SLASHED
from tui.keys import bindings_of, keys_for, keys_of, sections
from tui.screens.chat import ChatScreen

Schema = Mapping[str, Any]
Row = Sequence[str]

WRITTEN = "Written from the code by `make docs`: change the code, not this page."
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
KINDS = {"_is_a_size": "size", "_is_a_duration": "duration", "_is_loopback": "address and port"}
"""What a text must be, by the validator of the settings that sees to it."""

CONFIGURATION = f"""# Configuration

{WRITTEN}

A setting comes from the first of these that names it: a flag, the environment, `{PROJECT_FILE}` in the working folder,
`config.toml` in the configuration folder, its default. An unknown key is an error that names the nearest known one.
`assistant config show --origin` prints what is in force and where it comes from. While a model is loaded, its budget,
quantisation, policy and mode stay as they are for requests that name none ([the daemon](daemon.md)).

```toml
model = "smollm2-135m"
budget = "900MiB"

[keys]
new = "ctrl+e"
```

A *size* is a number of bytes, or a number with a unit (`900MiB`, `1.5GB`). A *duration* has units (`30m`, `1h30m`,
`250ms`) or is a number of seconds; `0` is now, a negative one for ever. Lists and tables are JSON in a variable."""

PLACED = """On Linux. Elsewhere the folders are those of the system; `assistant doctor` names those of data, state and
runtime."""

CATALOGUE = """`models.toml` in the configuration folder has a table per id. The comments at the top of the catalogue
that comes with the program say what the keys mean."""

RULES = f"""`{POLICY_FILE}` in the configuration folder, and a file given with `assistant agent --rules FILE`, have
rules, each under a line `[[rule]]`: [what may be called](agents.md#what-may-be-called)."""

KEYS = f"""# Keys and commands of the chat

{WRITTEN}

What F1 lists in `assistant chat`. Keys are written as the table `[keys]` of the [settings](configuration.md) takes
them. It names what a key does by its id, and may give several keys, separated by commas:

```toml
[keys]
new = "ctrl+e"
```

Keys under *Chat* work everywhere in it, others in the part that their heading names. Dialogs, lists and panels say
their own keys at their lower edge."""

COMMANDS = f"""# Commands

{WRITTEN}

Every command prints its help with `--help`; `assistant --version` prints the version. Standard output carries the
payload only, progress goes to standard error. Where an option is a [setting](configuration.md) too, that is its
default."""

POLICIES = f"""# Policies

{WRITTEN}

What stays resident when a conversation outgrows the working set: the setting `policy`, or `--policy` of a command. Each
is one file of `memory/policy/`, whose first line is its row here. [How they are asked](memory.md#policies),
[what they are worth](quality.md), [how to add one](../CONTRIBUTING.md#add-a-policy)."""


def documents() -> dict[str, str]:
    """Every page by the name of its file."""
    found = list(entries())
    pages = {"configuration.md": configuration(found), "keys.md": keys(), "commands.md": commands(found)}
    pages["policies.md"] = policies()
    return {name: "\n\n".join(parts) + "\n" for name, parts in pages.items()} | {"assistant.1": man_page(found)}


def configuration(found: Iterable[Entry]) -> list[str]:
    """Every setting, the files and folders, the variables, and the other files that users write."""
    known = {name for entry in found for word in entry.words for name in word.names}
    head = ("setting", "environment", "flag", "default", "values", "meaning")
    parts = [CONFIGURATION, "## Settings", table(head, _settings(known))]
    files = table(("file or folder", "with `ASSISTANT_HOME`", "what it is"), _files())
    parts += ["## Files and folders", PLACED, files]
    variables = [(_codes(names.split(", ")), text) for names, text in VARIABLES.items()]
    parts += ["## Environment", "Beside those of the settings:", table(("variable", "meaning"), variables)]
    parts += ["## Models", CATALOGUE, _keys_of_file(ModelEntry, "id")]
    parts += ["The table `geometry` of a model:", _keys_of_file(Shape)]
    return [*parts, "## Rules for the calls of tools", RULES, _keys_of_file(Rule, "where")]


def keys() -> list[str]:
    """The keys that F1 lists, the commands of the prompt, and those of plain lines."""
    parts = [KEYS]
    for title, owner in sections():
        rows = [(_codes(keys_of(one, {})), one.description, code(one.id or "")) for one in bindings_of(owner)]
        parts += [f"## {title}", table(("key", "what it does", "id"), rows)]
    parts += ["## Commands", "Typed in the prompt, or found in the palette by what they do.", _slashed()]
    spoken = [(code(f"/{name}"), words) for name, (words, _) in SPOKEN.items()]
    parts += ["## Commands of `assistant chat --plain`", table(("command", "what it does"), spoken)]
    return [*parts, "`/stop` ends the running reply, `/quit` leaves."]


def commands(found: Iterable[Entry]) -> list[str]:
    """Every command with its arguments, options and examples."""
    found = list(found)
    short = [(_link(one.name), prose(one.paragraphs[0])) for one in found if one.name.count(" ") == 1]
    exits = [(str(int(one)), EXITS[one]) for one in Exit]
    parts = [COMMANDS, table(("command", "what it does"), short)]
    parts += ["## Exit codes", table(("code", "meaning"), exits)]
    return parts + [part for entry in found for part in _section(entry)]


def policies() -> list[str]:
    """What each policy keeps."""
    usual = Settings.model_fields["policy"].default
    rows = [(f"{code(name)}{', the default' * (name == usual)}", text) for name, text in policy_lines()]
    return [POLICIES, table(("policy", "what it does"), rows)]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def prose(text: str) -> str:
    """Text in which Markdown must see no tags outside of code."""
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or r"\<", text)


def code(text: str) -> str:
    """Code in a line; nothing for nothing."""
    return f"`{text}`" if text else ""


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(map(code, texts))


def _settings(known: set[str]) -> Iterator[Row]:
    kinds = _kinds()
    for name, schema in Settings.model_json_schema()["properties"].items():
        flag = f"--{name.replace('_', '-')}"
        yield (
            code(name),
            code(PREFIX + name.upper()),
            code(flag) if flag in known else "",
            default_of(schema),
            kinds.get(name) or values_of(schema),
            prose(schema["description"]),
        )


def _kinds() -> dict[str, str]:
    validators = Settings.__pydantic_decorators__.field_validators
    return {field: word for name, word in KINDS.items() for field in validators[name].info.fields}


def _files() -> Iterator[Row]:
    moved = find_places({"ASSISTANT_HOME": "/"})
    for place, text in FILES:
        other = place(moved)
        yield code(str(place(PLACES))), code(f"$ASSISTANT_HOME{other}") if other.is_absolute() else "", text


def _keys_of_file(model: type[BaseModel], *without: str) -> str:
    """The keys of a file that users write."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    found = [(name, one) for name, one in schema["properties"].items() if name not in without]
    rows = [(code(name), "required" if name in required else default_of(one), values_of(one)) for name, one in found]
    return table(("key", "default", "values"), rows)


def default_of(schema: Schema) -> str:
    """A default as a file would state it."""
    match schema.get("default"):
        case None:
            return "none" if schema.get("type") == "object" else "unset"
        case [] | "":
            return "none"
        case bool(value):
            return code(str(value).lower())
        case list(values):
            return _codes(values)
        case value:
            return code(str(value)) if value != {} else "none"


def values_of(schema: Schema) -> str:
    """What a value may be."""
    one = next((part for part in schema.get("anyOf", ()) if part.get("type") != "null"), schema)
    if "enum" in one:
        return _codes(one["enum"])
    match one.get("type"):
        case "array":
            return f"list ({values_of(one['items'])})"
        case "object":
            return f"table ({values_of(one['additionalProperties'])})"
        case None:
            return "table"
        case name:
            return ", ".join(filter(None, (TYPES[name], bounds(one))))


def _slashed() -> str:
    rows = [
        (code(f"/{one.name} {one.argument}".rstrip()), _codes(keys_for(ChatScreen, one.key, {})), one.words)
        for one in SLASHED
    ]
    return table(("command", "key", "what it does"), rows)


def _link(name: str) -> str:
    return f"[`{name}`](#{name.replace(' ', '-')})"


def _section(entry: Entry) -> Iterator[str]:
    yield f"{'#' * (1 + entry.name.count(' '))} `{entry.name}`"
    yield from map(prose, entry.paragraphs)
    if entry.usage:
        yield f"Usage: `{entry.usage}`"
        yield table(("argument or option", "default", "meaning"), map(_line, entry.words))
    if entry.examples:
        yield "\n".join(["```", *entry.examples, "```"])


def _line(word: Word) -> Row:
    return code(f"{', '.join(word.names)} {word.value}".strip()), code(word.default), prose(word.text)


def main(argv: Sequence[str]) -> None:
    """Write every page."""
    folder = Path(argv[0]) if argv else Path(__file__).parent
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
