"""The file that names MCP servers, in the form that people paste from elsewhere: `{"mcpServers": {"name": {...}}}`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from assistant.agent.definition import Traits
from assistant.errors import UsageError

KEY = "mcpServers"
DECLARES = "declares"
"""Our own key of a server: which traits its tools do not have."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_TYPES = ("stdio", "http", "streamable-http", "streamableHttp", "streamable_http")


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server: a `command` to run, or the `url` of one that runs already.

    `source`: its entry in the file, as it stands there, without `env` and `headers`.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    traits: Traits = field(default_factory=Traits)
    source: str = ""


def read_servers(path: Path) -> list[McpServer]:
    """The servers of a file, by name; those that say `"disabled": true` are left out.

    Raises:
        UsageError: the file cannot be read, or an entry cannot be used; the text names it.
    """
    return list(_servers(path, _entries(path)))


def _entries(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.expanduser().read_bytes())
    except OSError as error:
        raise UsageError(f"The file of MCP servers {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The file of MCP servers {path} is no JSON: {error}.") from None
    entries = config.get(KEY) if isinstance(config, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f'The file of MCP servers {path} names none: it must hold {{"{KEY}": {{"name": {{...}}}}}}.')
    return entries


def _servers(path: Path, entries: Mapping[str, Any]) -> Iterator[McpServer]:
    for name, entry in sorted(entries.items()):
        if not isinstance(entry, dict):
            raise UsageError(f'The MCP server {name} in {path} must be an object with a "command" or a "url".')
        if entry.get("disabled") is not True:
            yield _Entry(name, entry, path).server()


class _Entry:
    """One server of the file, read key by key."""

    def __init__(self, name: str, entry: Mapping[str, Any], path: Path) -> None:
        self._name = name
        self._entry = entry
        self._path = path

    def server(self) -> McpServer:
        entry = self._entry
        if ("command" in entry) == ("url" in entry):
            raise self._wrong('needs either a "command" or a "url"')
        if (kind := entry.get("type", "stdio")) not in _TYPES:
            raise self._wrong(f"has the type {kind!r}; there are stdio and http (streamable)")
        said = {key: entry[key] for key in ("command", "args", "cwd", "url") if key in entry}
        return McpServer(
            name=self._name,
            command=self._text("command"),
            args=tuple(map(self._expanded, self._checked("args", [], _is_texts, "a list of texts"))),
            env=self._texts("env"),
            cwd=self._text("cwd") or None,
            url=self._url(),
            headers=self._texts("headers"),
            traits=self._traits(),
            source=json.dumps(said, sort_keys=True),
        )

    def _text(self, key: str) -> str:
        if key not in self._entry:
            return ""
        return self._expanded(self._checked(key, "", _is_text, "a text that is not empty"))

    def _texts(self, key: str) -> dict[str, str]:
        found = self._checked(key, {}, _is_table, "an object of texts")
        return {name: self._expanded(value) for name, value in found.items()}

    def _url(self) -> str:
        url = self._text("url")
        if url and not url.startswith(("http://", "https://")):
            raise self._wrong('has a "url" that does not begin with http:// or https://')
        return url

    def _traits(self) -> Traits:
        declared = self._checked(DECLARES, {}, _is_flags, "an object of traits that are true or false")
        known = [one.name for one in fields(Traits)]
        if unknown := sorted(declared.keys() - set(known)):
            raise self._wrong(f"declares {', '.join(unknown)}; there are: {', '.join(known)}")
        return Traits(**declared)

    def _checked(self, key: str, default: Any, fits: Callable[[Any], bool], what: str) -> Any:
        value = self._entry.get(key, default)
        if not (value is default or fits(value)):
            raise self._wrong(f'has a "{key}" that is not {what}')
        return value

    def _expanded(self, text: str) -> str:
        """With the values of variables; an empty one counts as unset where there is a default."""

        def value(found: re.Match[str]) -> str:
            variable, default = found.groups()
            given = os.environ.get(variable)
            if default is not None:
                return given or str(default)
            if given is None:
                raise self._wrong(f"needs the variable {variable}, which is not set")
            return given

        return _VARIABLE.sub(value, text)

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"The MCP server {self._name} in {self._path} {what}.")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and "\0" not in one for one in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and _is_texts([*value, *value.values()]) and not any("=" in name for name in value)


def _is_flags(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, bool) for one in value.values())
