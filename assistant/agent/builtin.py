"""Tools that are always there: reading below the working directory, searching what was said, and, in the sandbox,
Python and a shell."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import Field

from assistant.agent import reach
from assistant.agent.definition import BUILT_IN, Program, Tool, Traits
from assistant.agent.signature import read_signature
from assistant.client import Client
from assistant.errors import UsageError
from assistant.places import Places

T = TypeVar("T")

NAMES = ("list_dir", "python", "read_file", "search_history", "shell")
DEFAULT = ("list_dir", "python", "read_file", "search_history")
"""Those of a program that has no other tools and names none: the shell is off until it is asked for."""
_LINES = 400
_ENTRIES = 500
_LONGEST_LINE = 4000
_HITS = 20

Path_ = Annotated[str, Field(min_length=1, max_length=4096)]


def builtin_tools(names: Sequence[str], root: Path, places: Places) -> list[Tool]:
    """The built-in tools of these names, for a program whose working directory is `root`.

    Raises:
        UsageError: there is no built-in tool of that name.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise UsageError(f"There is no built-in tool {unknown[0]!r}; there are: {', '.join(NAMES)}.")
    found = {tool.name: tool for tool in (*_reading(root.resolve(), places), *_executing(root.resolve()))}
    return [found[name] for name in sorted(set(names))]


def _reading(root: Path, places: Places) -> list[Tool]:
    shut = reach.sealed(places)

    async def read_file(path: Path_, first_line: int = 1, lines: int = 200) -> str:
        """Read lines of a text file below the working directory.

        Args:
            path: Path of the file, relative to the working directory.
            first_line: Number of the first line to read, counted from 1.
            lines: How many lines to read, at most 400.
        """
        file = _below(root, path, shut)
        return await asyncio.to_thread(_read_lines, file, path, max(first_line, 1), min(max(lines, 1), _LINES))

    async def list_dir(path: Path_ = ".") -> str:
        """List a folder below the working directory: names, folders with a / at the end, sizes of files in bytes.

        Args:
            path: Path of the folder, relative to the working directory.
        """
        return await asyncio.to_thread(_list, _below(root, path, shut), path)

    async def search_history(words: Annotated[str, Field(min_length=1, max_length=500)]) -> str:
        """Search all past conversations of the user with this assistant.

        Args:
            words: Words that must all occur in a turn.
        """
        async with await Client.connect(places) as client:
            hits = await client.search(words, _HITS)
        told = [f"{hit.created[:10]} {hit.role} in {hit.conversation}: {' '.join(hit.snippet.split())}" for hit in hits]
        return "\n".join(told) or "Nothing was found."

    private = Traits.of("reads_private", "brings_untrusted")
    return [_tool(function, private) for function in (read_file, list_dir, search_history)]


def _executing(root: Path) -> list[Tool]:
    def python(code: Annotated[str, Field(min_length=1)]) -> str:  # type: ignore[empty-body]
        """Run Python code in an empty folder without network or files of the user. Print what you want to know.

        Args:
            code: A complete program. Nothing is kept between calls.
        """

    def shell(command: Annotated[str, Field(min_length=1)]) -> str:  # type: ignore[empty-body]
        """Run a shell command. It starts in an empty folder, can read the working directory $ROOT, and has no network.

        Args:
            command: A command of sh. Nothing that it writes is kept.
        """

    def run_python(arguments: Mapping[str, Any]) -> Program:
        return Program((sys.executable, "-P", "-"), arguments["code"].encode("utf-8", "replace"))

    def run_shell(arguments: Mapping[str, Any]) -> Program:
        return Program(("/usr/bin/env", f"ROOT={root}", "/bin/sh", "-c", arguments["command"]), b"", readable=(root,))

    return [
        _tool(python, Traits.of("can_exec"), run_python),
        _tool(shell, Traits.of("reads_private", "brings_untrusted", "can_exec"), run_shell),
    ]


def _tool(
    function: Callable[..., Any], traits: Traits, start: Callable[[Mapping[str, Any]], Program] | None = None
) -> Tool:
    signature = read_signature(function, BUILT_IN)
    run = None if start else _by_name(cast("Callable[..., Awaitable[str]]", function))
    return Tool(signature.spec, traits, BUILT_IN, arguments=signature.arguments, start=start, run=run)


def _by_name(function: Callable[..., Awaitable[str]]) -> Callable[[Mapping[str, Any]], Awaitable[str]]:
    async def run(arguments: Mapping[str, Any]) -> str:
        return await function(**arguments)

    return run


def _below(root: Path, path: str, shut: Sequence[Path]) -> Path:
    """The real path of what a call names.

    Raises:
        UsageError: it is not there, lies outside of `root` (a link may lead there) or belongs to the assistant itself.
    """
    try:
        found = (root / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise UsageError(f"There is no {path!r} in the working directory.") from None
    if not found.is_relative_to(root):
        raise UsageError(f"{path!r} lies outside of the working directory, and only what is below it can be read.")
    if any(found.is_relative_to(one) for one in shut):
        raise UsageError(f"{path!r} belongs to the assistant itself and cannot be read.")
    return found


def _read_lines(file: Path, path: str, first: int, count: int) -> str:
    if not stat.S_ISREG(file.stat().st_mode):  # to open another kind may wait, or do something
        raise UsageError(f"{path!r} is not a file that can be read as text.")
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
        chosen = list(islice(lines, first - 1, first - 1 + count))
        more = bool(stream.read(1))
    if any(b"\0" in line for line in chosen):
        raise UsageError(f"{path!r} is not text.")
    if not chosen:
        return f"[{path} has fewer than {first} lines]"
    text = b"".join(chosen).decode("utf-8", "replace")
    return f"{text}[lines {first} to {first + len(chosen) - 1}; the file goes on]" if more else text


def _list(folder: Path, path: str) -> str:
    if not folder.is_dir():
        raise UsageError(f"{path!r} is not a folder.")
    with os.scandir(folder) as found:
        entries = sorted(islice(found, _ENTRIES + 1), key=lambda entry: entry.name)
    told = [_entry(entry) for entry in entries[:_ENTRIES]]
    return "\n".join([*told, *(["[and more]"] if len(entries) > _ENTRIES else [])]) or "[empty]"


def _entry(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return f"{entry.name} (link)"
    if entry.is_dir():
        return f"{entry.name}/"
    return f"{entry.name} {entry.stat(follow_symlinks=False).st_size}"
