"""What the tests of tools share: a tools file of given text, and a call with the permit that belongs to it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assistant.agent.definition import Tool
from assistant.agent.execution import Result, execute
from assistant.agent.limits import Limits
from assistant.agent.permit import Permit, arguments_digest
from assistant.agent.sandbox import Sandbox
from assistant.agent.toolbox import Toolbox
from assistant.places import find_places


def tools_file(folder: Path, text: str, name: str = "tools.py") -> Path:
    """A file with this text, its indentation taken off."""
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


def tool_of(folder: Path, text: str, name: str = "tool") -> Tool:
    """The tool `name` of a file with this text."""
    return Toolbox.load(tools_file(folder, text), ()).find(name)


def permit_for(tool: Tool, arguments: Mapping[str, Any]) -> Permit:
    """What `authorize` would give."""
    return Permit(tool.name, tool.digest, arguments_digest(arguments))


async def call(tool: Tool, sandbox: Sandbox | None = None, limits: Limits | None = None, /, **arguments: Any) -> Result:
    """Execute one call that is permitted."""
    permit = permit_for(tool, arguments)
    return await execute(tool, arguments, permit=permit, sandbox=sandbox, places=find_places(), limits=limits)
