"""An MCP server of the SDK's own classes, for tests: over its standard streams, or over HTTP with `http`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("for tests", log_level="CRITICAL")


@server.tool(description=os.environ.get("DESCRIPTION", "Add two numbers."))
def add(a: int, b: int) -> int:
    return a + b


@server.tool(name="shout it!", structured_output=False)
def shout(text: str) -> list[str]:
    """Say it twice, and loud."""
    return [text.upper(), "again " + text.upper()]


@server.tool()
def refuse() -> str:
    """Fail."""
    raise ToolError("there is no more paper")


@server.tool()
def environment() -> str:
    """What there is in the environment."""
    return json.dumps({"variables": dict(os.environ), "group": os.getpgid(0), "session": os.getsid(0)})


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """A picture."""
    return ["here it is", Image(data=b"secret bytes", format="png")]


@server.tool()
def begin() -> list[int]:
    """Begin a process that nobody ends, and tell its number and the server's."""
    return [subprocess.Popen(["sleep", "1000"]).pid, os.getpid()]


@server.tool()
def die() -> str:
    """End the server."""
    print("out of ink", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
async def wait() -> str:
    """Wait for ever."""
    await asyncio.Event().wait()
    return "over"


@server.tool()
def header(context: Context[Any]) -> str:
    """A header of the request."""
    return (context.headers or {}).get("x-key", "none")


def over_http() -> None:
    """Serve, and say on which port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()  # who connects from now on waits until there is an answer
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="critical")
    uvicorn.Server(config).run(sockets=[listening])


def main(mode: str) -> None:
    """Do as `mode` says."""
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            server.run("stdio")
        finally:
            signal.pause()
    elif mode == "http":
        over_http()
    else:
        server.run("stdio")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
