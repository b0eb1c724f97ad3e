"""What a tool is: what the model is told of it, what it may do to the world, and how one call of it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from assistant.protocol import ToolSpec

BUILT_IN = "built-in"
MCP = "mcp:"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a tool may do; what is not declared counts as yes."""

    reads_private: bool = True
    brings_untrusted: bool = True
    can_send: bool = True
    can_write: bool = True
    can_exec: bool = True

    @classmethod
    def of(cls, *names: str) -> Self:
        """These traits and no others.

        Raises:
            ValueError: there is no trait of that name.
        """
        known = [field.name for field in fields(cls)]
        if unknown := set(names) - set(known):
            raise ValueError(f"no such trait: {', '.join(sorted(unknown))}")
        return cls(**{name: name in names for name in known})

    @property
    def names(self) -> list[str]:
        """Those that hold."""
        return [name for name, holds in asdict(self).items() if holds]


@dataclass(frozen=True, slots=True)
class Program:
    """One call as a child process: what it runs, reads on its standard input, and may read of the disk.

    `framed`: its standard output is one line of JSON, `{"text": ..., "error": ...}` (the host of a tools file);
    otherwise what it prints is the result.
    """

    argv: tuple[str, ...]
    stdin: bytes
    readable: tuple[Path, ...] = ()
    framed: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `origin`: the name of its file, "built-in" or "mcp:NAME".

    Exactly one of `start` (it runs in a child process) and `run` (it runs here: our own code) is set where it can be
    executed. `arguments` checks what a call brings; None: the schema of its parameters does. `network`: it asked for
    one by name.
    """

    spec: ToolSpec
    traits: Traits
    origin: str
    timeout_s: float | None = None
    source: str = ""
    arguments: type[BaseModel] | None = None
    start: Callable[[Mapping[str, Any]], Program] | None = None
    run: Callable[[Mapping[str, Any]], Awaitable[str]] | None = None
    network: bool = False

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> str:
        """Where it comes from, without the name of a file: one that moves stays the same."""
        return self.origin if self.origin == BUILT_IN or self.origin.startswith(MCP) else "file"

    @property
    def digest(self) -> str:
        """SHA-256 of the whole definition, in hex: another one when anything of it changed, its source text too."""
        definition = [self.spec.model_dump(), asdict(self.traits), self.kind, self.source]
        text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
