"""Whatever a tool tries, it does not get out of its sandbox; without one, the same attempts do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from assistant.agent.builtin import builtin_tools
from assistant.agent.execution import Result
from assistant.agent.limits import MIB, Limits
from assistant.agent.sandbox import Sandbox, absent, find_sandbox
from assistant.agent.toolbox import Toolbox
from assistant.places import find_places
from tests.agent.calling import call
from tests.agent.world import PRELUDE, World
from tests.conftest import wait_until

ATTEMPTS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("escapes.toml").read_text("utf-8"))
LIMITS = Limits(seconds=3.0, cpu_s=1, memory=512 * MIB, file=16 * MIB, disk=48 * MIB, entries=2000, processes=24)
BACK_ENDS = ["bubblewrap", "landlock"]


_ALL_OF_THEM = """
import os, sys
for name, code in {codes!r}:
    if os.fork() == 0:
        print("==", name, flush=True)
        try:
            exec(code, dict())
        except BaseException as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


def code_of(attempt: dict[str, Any], world: World) -> tuple[str, str]:
    """The tool that runs an attempt, and what it is given."""
    if "shell" in attempt:
        return "shell", attempt["shell"].format(**world.places())
    return "python", PRELUDE.format(places=world.places()) + attempt["python"]


def got_out(text: str, before: dict[str, Any], world: World) -> str | None:
    """By what one sees that an attempt succeeded."""
    if world.secret in text:
        return "it printed the secret"
    if "ESCAPED" in text:
        return "a call succeeded"
    after = world.state()
    return next((f"{part} changed" for part, was in before.items() if was != after[part]), None)


@pytest.mark.parametrize("name", BACK_ENDS)
def test_no_attempt_gets_out(name: str) -> None:
    sandbox = find_sandbox(name)
    if sandbox is None:  # then tools that write or execute are off, which another test shows
        assert absent()[name]
        return
    failures, others = {}, set(psutil.Process().children())
    with World() as world:
        root = world.ground / "root"
        box = Toolbox(builtin_tools(("python", "shell"), root, find_places()))
        before = world.state()
        together = [one for one, attempt in ATTEMPTS.items() if "python" in attempt and "ends" not in attempt]
        text = asyncio.run(tried_together(box, sandbox, together, world))
        assert text.count("== ") == len(together), text
        suspect = got_out(text, before, world) is not None
        for attempt_name, attempt in ATTEMPTS.items():
            if attempt_name in together and not suspect:
                continue
            result = asyncio.run(tried(box, sandbox, attempt, world))
            if how := judged(attempt, result, got_out(result.text, before, world)):
                failures[attempt_name] = (how, result)
        assert failures == {}
        wait_until(lambda: world.running() == [], "nothing of it runs any more")
        left = set(psutil.Process().children()) - others
        assert not [child for child in left if child.status() == psutil.STATUS_ZOMBIE]


async def tried_together(box: Toolbox, sandbox: Sandbox, names: list[str], world: World) -> str:
    """What attempts print that run in one sandbox, each in a process of its own: one start instead of eighty."""
    codes = [(name, code_of(ATTEMPTS[name], world)[1]) for name in names]
    limits = replace(LIMITS, seconds=30.0)
    return (await call(box.find("python"), sandbox, limits, code=_ALL_OF_THEM.format(codes=codes))).text


async def tried(box: Toolbox, sandbox: Sandbox, attempt: dict[str, Any], world: World) -> Result:
    """One attempt in the sandbox."""
    tool, text = code_of(attempt, world)
    arguments = {"command": text} if tool == "shell" else {"code": text}
    return await call(box.find(tool), sandbox, LIMITS, **arguments)


def judged(attempt: dict[str, Any], result: Result, how: str | None) -> str | None:
    """Why an attempt was not held, or None."""
    if attempt.get("ends") and result.kind == "done":
        return "it went on to its end"
    if "sandbox" in result.text or result.kind == "refused":
        return "it was not tried"
    return how


def test_without_a_sandbox_the_same_attempts_get_out() -> None:
    root = os.geteuid() == 0
    for name, attempt in ATTEMPTS.items():
        if attempt["control"] is True or (attempt["control"] == "root" and root):
            with World() as world:
                before = world.state()
                text = unconfined(*code_of(attempt, world), world)
                assert eventually_out(text, before, world), (name, text)


def unconfined(tool: str, text: str, world: World) -> str:
    """What an attempt prints that nothing keeps in."""
    folder = world.ground.parent / (world.ground.name + ".work")
    folder.mkdir()
    command = ["/bin/sh", "-c", text] if tool == "shell" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, pass_fds=[world.descriptor], timeout=20)
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    return done.stdout + done.stderr


def eventually_out(text: str, before: dict[str, Any], world: World) -> bool:
    """A listener hears in a thread of its own."""
    wait_until(lambda: got_out(text, before, world) is not None, text, 10.0)
    return True


def test_there_are_at_least_forty_attempts_most_of_them_with_a_control() -> None:
    assert len(ATTEMPTS) >= 40
    assert sum(bool(attempt["control"]) for attempt in ATTEMPTS.values()) >= 40
