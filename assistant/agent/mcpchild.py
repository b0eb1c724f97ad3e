"""An MCP server as a child process: a session of its own, a clean environment, and nothing of it stays behind.

The SDK's own transport hands more of the environment on, and leaves what a server started when the server ends first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from assistant.agent.mcpconfig import McpServer
from assistant.agent.untrusted import visible

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]

INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")
"""What a server gets of our environment; the rest is named by its entry."""
LINE = 16 * 1024 * 1024
"""Bytes that one message of a server may take."""
_LAST = 4096
_SHOWN = 200
_LEAVES_S = 2.0
"""Seconds that a server has to end once its input has ended, and again once it was told to."""
_EVERY_S = 0.01


class Child:
    """The process of one server. It runs while `streams` is open."""

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._errors = b""
        self._nonsense = b""
        self._process: subprocess.Popen[bytes] | None = None

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Incoming, Outgoing]]:
        """What the server says and what is said to it; a line that is no message is left out.

        Raises:
            OSError: it cannot be started.
        """
        process = self._process = self._start()
        to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        tasks: list[asyncio.Task[None]] = []
        try:
            async with _pipes(process) as (messages, errors, writer):
                tasks += [
                    asyncio.create_task(self._read(messages, to_session)),
                    asyncio.create_task(self._write(writer, from_session, to_session)),
                    asyncio.create_task(self._listen(errors)),
                ]
                try:
                    yield incoming, outgoing
                    writer.close()
                    await self._leaves()
                finally:
                    self._kill(signal.SIGKILL)
                    process.wait()
                    incoming.close()
                    outgoing.close()
                    await _ended(tasks)
        finally:
            self._kill(signal.SIGKILL)
            process.wait()
            for stream in (incoming, outgoing, to_session, from_session):
                stream.close()
            for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
                pipe.close()

    @property
    def last_words(self) -> str:
        """What may explain its silence, as sentences that begin with a space; empty when there is nothing."""
        status = self._process.returncode if self._process else None
        told = f" It ended with exit status {status}." if status is not None and status >= 0 else ""
        if self._nonsense:
            told += f" It wrote what is no message of the protocol: {_line(self._nonsense)}."
        return told + (f" Its last words: {_line(self._errors)}." if self._errors.strip() else "")

    def _start(self) -> subprocess.Popen[bytes]:
        server = self._server
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return subprocess.Popen(
            [server.command, *server.args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=server.cwd,
            env=_environment(inherited, server.env),
            start_new_session=True,
        )

    async def _read(
        self, reader: asyncio.StreamReader, into: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> None:
        async with into:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ValueError):  # nobody reads; too long
                while line := await reader.readline():
                    if message := self._message(line):
                        await into.send(message)

    def _message(self, line: bytes) -> SessionMessage | None:
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            self._nonsense = self._nonsense or line[:_LAST]
            return None

    async def _write(
        self,
        writer: asyncio.StreamWriter,
        messages: MemoryObjectReceiveStream[SessionMessage],
        into: MemoryObjectSendStream[SessionMessage | Exception],
    ) -> None:
        try:
            async with messages:
                async for one in messages:
                    text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
        except OSError:
            into.close()  # it reads no more, so it will answer no more

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self._errors = (self._errors + data)[-_LAST:]

    async def _leaves(self) -> None:
        """Its input has ended: give it time to leave, then tell it to."""
        if not await self._left():
            self._kill(signal.SIGTERM)
            await self._left()

    async def _left(self) -> bool:
        """Whether it ends in time. It is not waited for, so that its number, which is its group's, stays taken."""
        assert self._process is not None
        end = asyncio.get_running_loop().time() + _LEAVES_S
        while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if asyncio.get_running_loop().time() > end:
                return False
            await asyncio.sleep(_EVERY_S)
        return True

    def _kill(self, number: signal.Signals) -> None:
        """The whole group."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _environment(inherited: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.defpath, **inherited, **named}


@asynccontextmanager
async def _pipes(
    process: subprocess.Popen[bytes],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Its standard output and error, to be read, and its input."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    loop = asyncio.get_running_loop()
    messages, errors = asyncio.StreamReader(limit=LINE), asyncio.StreamReader(limit=LINE)
    with ExitStack() as stack:
        into, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
        )
        stack.callback(_abort, into)
        for reader, pipe in ((messages, process.stdout), (errors, process.stderr)):
            said, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), pipe)
            stack.callback(said.close)
        yield messages, errors, asyncio.StreamWriter(into, protocol, None, loop)


def _abort(transport: asyncio.WriteTransport) -> None:
    """Close it without writing what is left; one that is closed already must not be."""
    if not transport.is_closing() or transport.get_write_buffer_size():
        transport.abort()


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """They end by themselves, for nobody holds the other ends any more; unless somebody took them along."""
    _, left = await asyncio.wait(tasks, timeout=_LEAVES_S)
    for task in left:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _line(data: bytes) -> str:
    """The last line, as much of it as a sentence can take."""
    lines = data.decode("utf-8", "replace").strip().splitlines() or [""]
    return visible(lines[-1])[:_SHOWN].rstrip(".")
