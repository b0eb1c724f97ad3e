"""The one place that executes a tool. It asks for a permit, and what it gives back is always a result."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from assistant.agent import reach
from assistant.agent.cut import cut
from assistant.agent.definition import Program, Tool
from assistant.agent.limits import Limits
from assistant.agent.permit import Permit
from assistant.agent.running import TIMEOUT, Ended, run_child
from assistant.agent.sandbox import Bare, Sandbox, absent, environment, link_package
from assistant.agent.scratch import scratch
from assistant.errors import AssistantError
from assistant.places import Places

Kind = Literal["done", "failed", "timeout", "refused"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a call came to: the text for the model, how long it took, and how many characters were left out of it."""

    text: str
    error: bool
    kind: Kind
    seconds: float
    cut: int


async def execute(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    permit: Permit,
    sandbox: Sandbox | None,
    places: Places,
    limits: Limits | None = None,
) -> Result:
    """Run one call, its arguments already checked (`Toolbox.validated`). Being cancelled ends all it started.

    A permit for anything else, or a tool that needs a sandbox where there is none, is refused; nothing is raised for
    what a tool does.
    """
    limits = limits or Limits()
    if why := _refusal(tool, arguments, permit, sandbox):
        return Result(why, True, "refused", 0.0, 0)
    began = time.monotonic()
    seconds = tool.timeout_s if tool.timeout_s is not None else limits.seconds
    result = await _here(tool, arguments, seconds) if tool.start is None else None
    if result is None:
        result = await _in_child(tool, arguments, sandbox or Bare(), places, limits, seconds)
    text, left_out = cut(result.text, limits.output)
    return replace(result, text=text, cut=result.cut + left_out, seconds=time.monotonic() - began)


def unavailable(tool: Tool, sandbox: Sandbox | None) -> str | None:
    """Why a tool is off, or None: one that can write or execute needs a sandbox."""
    can = [word for word, holds in (("write", tool.traits.can_write), ("execute", tool.traits.can_exec)) if holds]
    if sandbox is not None or not can or tool.start is None:
        return None
    reasons = " ".join(absent().values()) or "It was asked to run without one."
    return f"The tool {tool.name} can {' and '.join(can)}, so it is off: there is no sandbox here. {reasons}"


def _refusal(tool: Tool, arguments: Mapping[str, Any], permit: Permit, sandbox: Sandbox | None) -> str | None:
    if not permit.covers(tool.name, tool.digest, arguments):
        return f"The permit is not for this call of {tool.name}; nothing was run."
    if tool.start is None and tool.run is None:
        return f"The tool {tool.name} cannot be run from here."
    return unavailable(tool, sandbox)


async def _here(tool: Tool, arguments: Mapping[str, Any], seconds: float) -> Result:
    """A tool of our own that needs no process."""
    assert tool.run is not None
    try:
        async with asyncio.timeout(seconds):
            return Result(await tool.run(arguments), False, "done", 0.0, 0)
    except TimeoutError:
        return Result(_too_long(tool, seconds), True, "timeout", 0.0, 0)
    except AssistantError as error:
        return Result(str(error), True, "failed", 0.0, 0)
    except OSError as error:  # its own text names the whole path
        return Result(f"The tool {tool.name} failed: {error.strerror or error}.", True, "failed", 0.0, 0)
    except Exception as error:
        return Result(f"The tool {tool.name} failed: {type(error).__name__}: {error}", True, "failed", 0.0, 0)


async def _in_child(
    tool: Tool, arguments: Mapping[str, Any], sandbox: Sandbox, places: Places, limits: Limits, seconds: float
) -> Result:
    assert tool.start is not None
    program = tool.start(arguments)
    async with scratch() as folder:
        library, work = link_package(folder), folder / "work"
        work.mkdir()
        readable = reach.readable([*program.readable, library], reach.sealed(places), network=tool.network)
        command = sandbox.command(program.argv, writable=work, readable=readable, network=tool.network, limits=limits)
        try:
            ended = await run_child(
                command,
                stdin=program.stdin,
                env=environment(work, library),
                folder=work,
                limits=limits,
                seconds=seconds,
                framed=program.framed,
            )
        except OSError as error:
            return Result(f"The tool {tool.name} cannot be started: {error}.", True, "failed", 0.0, 0)
    return _result(tool, program, ended, limits, seconds)


def _result(tool: Tool, program: Program, ended: Ended, limits: Limits, seconds: float) -> Result:
    if ended.stopped == TIMEOUT:
        return _failed(_too_long(tool, seconds), ended, kind="timeout")
    if ended.stopped is not None:
        return _failed(f"The tool {tool.name} was stopped: {ended.stopped}.", ended)
    if not program.framed:
        if ended.status == 0:
            return Result(ended.printed, False, "done", 0.0, ended.left_out)
        return _failed(f"It ended {_how(ended.status, limits)}.", ended)
    answer = _answer(ended.answer)
    if answer is None:
        return _failed(f"The tool {tool.name} ended {_how(ended.status, limits)} before it answered.", ended)
    text, left_out, error = answer
    return Result(_with_printed(text, ended), error, "failed" if error else "done", 0.0, left_out + ended.left_out)


def _failed(sentence: str, ended: Ended, kind: Kind = "failed") -> Result:
    return Result(_with_printed(sentence, ended), True, kind, 0.0, ended.left_out)


def _with_printed(text: str, ended: Ended) -> str:
    return f"{text}\n\nPrinted:\n{ended.printed.rstrip()}" if ended.printed.strip() else text


def _answer(line: bytes | None) -> tuple[str, int, bool] | None:
    """What the host wrote, unless a tool wrote it in its place and wrote nonsense."""
    try:
        frame = json.loads(line or b"")
        return str(frame["text"]), int(frame["left_out"]), bool(frame["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _too_long(tool: Tool, seconds: float) -> str:
    return f"The tool {tool.name} was stopped after {seconds:g} s: it may not take longer."


def _how(status: int | None, limits: Limits) -> str:
    """The end of a process, in words."""
    if status is None or status <= 128:
        return f"with exit status {status or 0}"
    number = status - 128
    if number == signal.SIGXCPU:
        return f"after {limits.cpu_s} s of processor time, which is all it may use"
    try:
        return f"by the signal {signal.Signals(number).name}"
    except ValueError:
        return f"with exit status {status}"
