"""`assistant tools`: what a tools file offers to a program, before any program runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from assistant.agent.definition import Tool
from assistant.agent.execution import unavailable
from assistant.agent.mcp import servers
from assistant.agent.sandbox import absent, find_sandbox
from assistant.agent.toolbox import Toolbox
from assistant.commands.options import AsJson
from assistant.commands.terminal import say
from assistant.controls import without_controls

app = typer.Typer(help="List the tools that a program may call.", no_args_is_help=True)

File = Annotated[Path | None, typer.Argument(metavar="FILE", help="A Python file of functions; none: built-in tools.")]

Mcp = Annotated[Path | None, typer.Option("--mcp", metavar="FILE", help="MCP servers to ask for theirs, as JSON.")]

_BUILT_IN = ("list_dir", "python", "read_file", "search_history", "shell")


@app.callback()
def tools() -> None:
    """List the tools that a program may call."""


@app.command("list", epilog="Example: assistant tools list tools.py --json")
def list_tools(file: File = None, mcp: Mcp = None, as_json: AsJson = False) -> None:
    """List the tools of a file or of MCP servers, or the built-in ones: what the model is told, what each may do."""
    found = asyncio.run(_found(file, mcp))
    sandbox = find_sandbox()
    if as_json:
        record = {
            "file": str(file) if file else None,
            "sandbox": sandbox.name if sandbox else None,
            "absent": absent(),
            "tools": [_record(tool, unavailable(tool, sandbox)) for tool in found],
        }
        print(json.dumps(record, ensure_ascii=False, indent=1))
        return
    for tool in found:
        _show(tool)
        if why := unavailable(tool, sandbox):
            say(why)


async def _found(file: Path | None, mcp: Path | None) -> list[Tool]:
    async with servers(mcp) as more:
        return Toolbox.load(file, () if file or mcp else _BUILT_IN, more=more).tools


def _record(tool: Tool, off: str | None) -> dict[str, Any]:
    return {
        **tool.spec.model_dump(),
        "traits": tool.traits.names,
        "network": tool.network,
        "origin": tool.origin,
        "timeout_s": tool.timeout_s,
        "digest": tool.digest,
        "off": off,
    }


def _show(tool: Tool) -> None:
    needed = tool.spec.parameters.get("required", [])
    named = [name if name in needed else f"[{name}]" for name in tool.spec.parameters.get("properties", {})]
    print(without_controls(f"{tool.name}({', '.join(named)}) · {', '.join(tool.traits.names) or 'harmless'}"))
    print(without_controls(f"  {(tool.spec.description.strip().splitlines() or ['(no description)'])[0]}"))
