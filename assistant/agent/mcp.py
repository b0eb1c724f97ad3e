"""Tools of MCP servers, through the official SDK (an extra): started or connected to, asked, called, ended."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.agent.arguments import check_schema
from assistant.agent.definition import MCP, Tool
from assistant.agent.mcpconfig import McpServer, read_servers
from assistant.agent.untrusted import visible
from assistant.errors import AssistantError, UsageError
from assistant.protocol import ToolSpec

if TYPE_CHECKING:
    from mcp import types
    from mcp.client import Client

    from assistant.agent.mcpchild import Child

START_S = 20.0
"""Seconds in which a server must have said what its tools are."""
END_S = 10.0
"""Seconds in which a server must have been ended, or left."""
MOST = 128
"""Tools that a model can be shown."""
DESCRIPTION = 8192
"""Characters of a description."""

_NO_PACKAGE = "Tools of MCP servers need the package mcp: pip install 'on-device-assistant[mcp]'."
_NAME = 64
_SHOWN = 300


@asynccontextmanager
async def servers(path: Path | None, start_s: float = START_S) -> AsyncIterator[list[Tool]]:
    """The tools of the servers that a file names, which run as long as this is open; None: no file, no tools.

    Raises:
        UsageError: the package is not installed, the file cannot be used, or a server does not come to list its tools.
    """
    if path is None:
        yield []
        return
    _check_package()
    connections = [_Connection(server, start_s) for server in read_servers(path)]
    try:
        listed = await asyncio.gather(*(one.listed() for one in connections))
        yield _tools(list(zip(connections, listed, strict=True)))
    finally:
        for one in connections:
            one.end()
        await asyncio.shield(asyncio.gather(*(one.ended() for one in connections)))


def _check_package() -> None:
    if find_spec("mcp") is None:
        raise UsageError(_NO_PACKAGE)
    logging.getLogger("mcp").addHandler(logging.NullHandler())  # what it would say on the terminal, we say in sentences


class _Connection:
    """One server, held by a task of its own, so that nothing that breaks in it breaks the run."""

    def __init__(self, server: McpServer, start_s: float) -> None:
        self.server = server
        self._who = f"The MCP server {server.name}"
        self._start_s = start_s
        self._client: Client | None = None
        self._child: Child | None = None
        self._over = asyncio.Event()
        self._listed: asyncio.Future[list[types.Tool]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold())

    async def listed(self) -> list[types.Tool]:
        """Its tools.

        Raises:
            UsageError: it cannot be started or reached, dies, hangs, or does not speak the protocol.
        """
        return await asyncio.shield(self._listed)

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Make a call; the text of its result.

        Raises:
            AssistantError: the tool failed, or the server is gone.
        """
        from mcp import MCPError

        if self._client is None or self._task.done():
            raise AssistantError(f"{self._who} is gone.")
        try:
            result = await self._client.call_tool(tool, dict(arguments))
        except MCPError as error:
            raise AssistantError(self._failed(error)) from None
        except (ValueError, RuntimeError) as error:  # what it answered is not what the protocol or its own schema says
            raise AssistantError(f"{self._who} gave an answer that cannot be read: {_first_line(error)}.") from None
        text = _text(result)
        if result.is_error:
            raise AssistantError(text or f"{self._who} says that {tool} failed, and not why.")
        return text

    def end(self) -> None:
        """Have the server ended; `ended` waits for it."""
        self._over.set()
        if not self._listed.done():
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until nothing of it is left."""
        _, left = await asyncio.wait([self._task], timeout=END_S)
        if left:
            self._task.cancel()
            await asyncio.wait(left)
        if self._listed.done() and not self._listed.cancelled():
            self._listed.exception()  # it was told, or another server's was

    async def _hold(self) -> None:
        try:
            from mcp.client import Client

            async with AsyncExitStack() as stack, asyncio.timeout(self._start_s) as clock:
                client = await stack.enter_async_context(Client(await self._transport(stack), cache=None))
                listed = await _listed(client, self.server)
                clock.reschedule(None)
                self._client = client
                self._listed.set_result(listed)
                await self._over.wait()
        except asyncio.CancelledError:
            self._listed.cancel()
            raise
        except Exception as error:
            if not self._listed.done():
                self._listed.set_exception(UsageError(self._not_started(error)))

    async def _transport(self, stack: AsyncExitStack) -> AbstractAsyncContextManager[Any]:
        if self.server.url:
            from httpx2 import AsyncClient, Timeout
            from mcp.client.streamable_http import streamable_http_client

            timeout = Timeout(self._start_s, read=None)  # a call is given its time by who makes it
            http = await stack.enter_async_context(AsyncClient(headers=dict(self.server.headers), timeout=timeout))
            return streamable_http_client(self.server.url, http_client=http)
        from assistant.agent.mcpchild import Child

        self._child = Child(self.server)
        return self._child.streams()

    def _not_started(self, error: Exception) -> str:
        last_words = self._child.last_words if self._child else ""
        match _innermost(error):
            case UsageError() as ours:
                return str(ours)
            case TimeoutError():
                return f"{self._who} did not list its tools within {self._start_s:g} s.{last_words}"
            case OSError() as cause if self._child is not None:
                return f"{self._who} cannot be started: {cause.strerror} ({cause.filename})."
            case cause if self._child is not None:
                return f"{self._who} did not list its tools: {_first_line(cause)}.{last_words}"
            case cause:
                return f"{self._who} cannot be reached: {_first_line(cause)}."

    def _failed(self, error: Exception) -> str:
        from mcp_types import CONNECTION_CLOSED

        if self._child is not None and getattr(error, "code", None) == CONNECTION_CLOSED:
            return f"{self._who} has ended in the middle of the run.{self._child.last_words}"
        return f"{self._who} did not make the call: {_first_line(error)}."


async def _listed(client: Client, server: McpServer) -> list[types.Tool]:
    """All pages of what it lists."""
    page = await client.list_tools()
    found = list(page.tools)
    while page.next_cursor is not None and len(found) <= MOST:
        page = await client.list_tools(cursor=page.next_cursor)
        found += page.tools
    for name, count in Counter(tool.name for tool in found).items():
        if count > 1:
            raise UsageError(f"The MCP server {server.name} lists two tools called {name}.")
    return found


def _tools(found: list[tuple[_Connection, list[types.Tool]]]) -> list[Tool]:
    """All tools of all servers, by names that are theirs alone."""
    pairs = [(connection, listed) for connection, all_listed in found for listed in all_listed]
    if len(pairs) > MOST:
        raise UsageError(f"The MCP servers list more tools than the {MOST} that a model can be shown; take some out.")
    plain = Counter(_plain_name(one.server.name, listed.name) for one, listed in pairs)
    return [_tool(one, listed, plain) for one, listed in pairs]


def _tool(connection: _Connection, listed: types.Tool, plain: Counter[str]) -> Tool:
    server = connection.server
    whose = f"{visible(listed.name)} of the MCP server {server.name}"
    description = listed.description or listed.title or ""
    if len(description) > DESCRIPTION:
        raise UsageError(f"The description of the tool {whose} is longer than {DESCRIPTION:,} characters.")
    check_schema(listed.input_schema, f"the tool {whose}")
    name = _plain_name(server.name, listed.name)
    if plain[name] > 1 or len(name) > _NAME:
        mark = hashlib.sha256(f"{server.name}\n{listed.name}".encode()).hexdigest()[:8]
        name = f"{name[: _NAME - 9]}_{mark}"

    async def run(arguments: Mapping[str, Any]) -> str:
        return await connection.call(listed.name, arguments)

    return Tool(
        spec=ToolSpec(name=name, description=description, parameters=listed.input_schema),
        traits=server.traits,
        origin=f"{MCP}{server.name}",
        source=server.source,
        run=run,
    )


def _plain_name(server: str, tool: str) -> str:
    """Letters, digits, and what else a name of a tool may have."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{server}_{tool}")
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _text(result: types.CallToolResult) -> str:
    """The texts of a result; what is no text is named."""
    parts = [_part(part) for part in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _part(part: types.ContentBlock) -> str:
    match part.type:
        case "text":
            return part.text
        case "image" | "audio":
            return f"[{part.type}, {part.mime_type}: left out]"
        case "resource_link":
            return f"[resource {part.name}, {part.uri}: left out]"
        case "resource":
            return f"[resource {part.resource.uri}: left out]"


def _innermost(error: BaseException) -> BaseException:
    """The first cause in groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return visible(lines[0])[:_SHOWN].rstrip(".")
