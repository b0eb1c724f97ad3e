"""Runs in a child process, `python -m assistant.agent.host`: loads a tools file and calls one function of it.

Standard input: `{"file", "sha256", "function", "arguments", "limit"}`. Standard output: one line `{"text", "error"}`,
and nothing else: what the tool prints goes to standard error. Imports nothing but Python, for it starts with each call.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from assistant.agent.cut import cut
from assistant.agent.loading import digest_of, line_of, load_module


def main() -> None:
    """Answer one request."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        request = json.load(sys.stdin)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        text, error = _called(request)
        _flush()
        _write(answer, *cut(text, request["limit"]), error)


def _called(request: dict[str, Any]) -> tuple[str, bool]:
    """The result as text, and whether it is an error."""
    path = Path(request["file"])
    try:
        source = path.read_bytes()
        if digest_of(source) != request["sha256"]:
            return f"The file {path.name} changed since the run began; start the run again to use it.", True
        function = getattr(load_module(path, source), request["function"])
        return as_text(_awaited(function(**request["arguments"])))
    except BaseException as error:  # SystemExit too: the tool failed, and the model is told how
        return _told(error, path), True


def _awaited(value: Any) -> Any:
    """The value itself, or what it comes to."""
    if not hasattr(value, "__await__"):
        return value
    import asyncio  # takes as long to import as the rest of a call; most tools do without

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def as_text(value: Any) -> tuple[str, bool]:
    """What a tool returned, for the model: text as it is, anything else as JSON; and whether that cannot be."""
    if isinstance(value, str):
        return value, False
    if isinstance(value, bytes | bytearray | memoryview):
        return f"It returned {type(value).__name__}; a tool returns text or what JSON can say.", True
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False), False
    except ValueError:
        return "It returned NaN, infinity or something that holds itself; JSON has no word for that.", True
    except RecursionError:
        return "It returned something nested too deeply for JSON.", True
    except TypeError as error:
        return f"It returned something that is neither text nor JSON: {error}.", True


def _told(error: BaseException, path: Path) -> str:
    said = type(error).__name__
    with suppress(Exception):  # its own text may raise
        said = f"It called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"{said}: {error}"
    line = line_of(error, path)
    return f"{said} ({path.name}, line {line})" if line else said


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the tool closed it
            stream.flush()


def _write(answer: BinaryIO, text: str, left_out: int, error: bool) -> None:
    answer.write(json.dumps({"text": text, "left_out": left_out, "error": error}).encode() + b"\n")
    answer.flush()


if __name__ == "__main__":
    main()
