"""What the settings say about the looks and the keys of the chat: `theme`, and the table `[keys]`.

They are read here and not asked of the daemon, because the first paint needs them; order and files are those of
`assistant.settings`, which checks everything else in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.errors import UsageError
from assistant.places import find_places, working_folder

PROJECT_FILE = "assistant.toml"
_VARIABLES = {"theme": "ASSISTANT_THEME", "keys": "ASSISTANT_KEYS"}


@dataclass(frozen=True, slots=True)
class Preferences:
    """Unset means: as the program would have it."""

    theme: str | None = None
    theme_from: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys by the id of what they do, for example `new` → `ctrl+e`."""


def load_preferences() -> Preferences:
    """Environment over the project's file over the user's file; the first that names a setting decides it.

    Raises:
        UsageError: a file that is no TOML, or a value that is not text.
    """
    found: dict[str, tuple[object, str]] = {}
    for where, values in _sources():
        for name in ("theme", "keys"):
            if name in values:
                found.setdefault(name, (values[name], where))
    theme, theme_from = found.get("theme", (None, ""))
    return Preferences(None if theme is None else _text(theme, "theme", theme_from), theme_from, _keys(found))


def _sources() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "The environment", {name: value for name in _VARIABLES if (value := _variable(name)) is not None}
    for path in (working_folder() / PROJECT_FILE, find_places().user_settings):
        yield f"The file {path}", _read(path)


def _variable(name: str) -> object:
    said = os.environ.get(_VARIABLES[name])
    if not said or name == "theme":
        return said or None
    import json

    try:
        return json.loads(said)
    except ValueError:
        raise UsageError(f"The variable {_VARIABLES[name]} is not a JSON object.") from None


def _keys(found: dict[str, tuple[object, str]]) -> dict[str, str]:
    table, where = found.get("keys", ({}, ""))
    if not isinstance(table, dict):
        raise UsageError(f'{where}: keys is not a table. Write: [keys] and under it lines such as new = "ctrl+e".')
    return {name: _text(value, f"keys.{name}", where) for name, value in table.items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"The settings file {path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise UsageError(f"The settings file {path} cannot be read: {error.strerror}.") from None


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where}: {name} = {value!r} is not valid; it has to be text in quotes.")
    return value
