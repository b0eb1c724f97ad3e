"""Which sandbox is there, why a better one is not, and what is off without any."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from assistant.agent import landlock, reach, seccomp
from assistant.agent.builtin import builtin_tools
from assistant.agent.execution import unavailable
from assistant.agent.sandbox import absent, find_sandbox
from assistant.agent.toolbox import Toolbox
from assistant.errors import UsageError
from assistant.places import find_places
from tests.agent.calling import call, tools_file

TOOLS = '''
from assistant.tools import declares

@declares(can_write=False, can_exec=False)
def reads() -> str:
    """Read."""
    return "ran"

@declares(can_exec=False)
def writes() -> str:
    """Write."""
    return "ran"

def says_nothing() -> str:
    """Say nothing."""
    return "ran"
'''


def test_a_back_end_that_is_not_named_is_the_best_that_works() -> None:
    best = find_sandbox()
    missing = absent()
    works = [name for name in ("bubblewrap", "landlock") if name not in missing]
    assert (best.name if best else None) == (works[0] if works else None)
    assert find_sandbox("none") is None
    with pytest.raises(UsageError, match="no sandbox called 'docker'"):
        find_sandbox("docker")


def test_without_bubblewrap_the_next_is_taken_and_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_sandbox("bubblewrap") is None
    assert absent()["bubblewrap"] == "Bubblewrap is not installed (the command bwrap is not found)."
    found = find_sandbox()
    assert found is None or found.name == "landlock"


def test_a_bubblewrap_that_does_not_work_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_sandbox("bubblewrap") is None
    assert absent()["bubblewrap"] == ("Bubblewrap does not work here: bwrap: No permissions to create new namespace.")


def test_a_kernel_without_landlock_or_a_machine_without_a_table_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 1)
    assert find_sandbox("landlock") is None
    assert absent()["landlock"] == "Landlock of this kernel is version 1, and 3 is needed (Linux 6.2)."
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine="riscv64"))
    assert absent()["bubblewrap"] == "Bubblewrap is not used: the system calls of riscv64 are not known here."


def test_without_any_tools_that_write_or_execute_are_off_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert find_sandbox() is None
    box = Toolbox(
        [*Toolbox.load(tools_file(tmp_path, TOOLS), ()).tools, *builtin_tools(("python",), tmp_path, find_places())]
    )
    assert asyncio.run(call(box.find("reads"), None)).text == "ran"
    for name, arguments in (("writes", {}), ("says_nothing", {}), ("python", {"code": "print('ran')"})):
        result = asyncio.run(call(box.find(name), None, **arguments))
        assert (result.kind, result.error) == ("refused", True)
        assert result.text == unavailable(box.find(name), None)
        assert "so it is off: there is no sandbox here. Bubblewrap is not installed" in result.text
        assert "Landlock of this kernel is version 0" in result.text


def test_reading_stays_possible_for_tools_that_run_here(tmp_path: Path) -> None:
    for tool in builtin_tools(("read_file", "list_dir", "search_history"), tmp_path, find_places()):
        assert unavailable(tool, None) is None


def test_what_is_shut_is_left_out_of_what_is_readable(tmp_path: Path) -> None:
    for name in ("a/b/shut/inner", "a/b/open", "a/c", "shut too"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "a" / "link").symlink_to("b/shut")
    shut = [tmp_path / "a" / "b" / "shut", tmp_path / "shut too"]
    found = set(reach.readable([tmp_path / "a", tmp_path / "shut too"], shut, network=False))
    assert {path for path in found if path.is_relative_to(tmp_path)} == {
        tmp_path / "a" / "b" / "open",
        tmp_path / "a" / "c",
        tmp_path / "a" / "file",
    }


def test_the_home_is_never_readable_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project").mkdir()
    (file := tmp_path / "tools.py").touch()
    declared = [tmp_path, tmp_path.parent, tmp_path / "project", *reach.folder_of(file)]
    found = reach.readable(declared, [], network=False)
    assert {path for path in found if path.is_relative_to(tmp_path)} == {tmp_path / "project", file}


@pytest.mark.skipif(find_sandbox("landlock") is None, reason="no Landlock here")
@pytest.mark.parametrize("spoken", range(landlock.NEEDED, landlock.version() + 1))
def test_older_versions_of_landlock_keep_a_tool_in_as_well(tmp_path: Path, spoken: int) -> None:
    (tmp_path / "secret").write_text("secret")
    (work := tmp_path / "work").mkdir()
    code = f"""
import os, socket, sys
from assistant.agent import landlock, seccomp
landlock.version = lambda: {spoken}
landlock.restrict(["/usr", "/lib", "/lib64"], ["."], network=False)
own = None if landlock.keeps_signals() else os.getpid()
seccomp.apply(seccomp.Rules(metadata=False, own=own))
open("mine", "w").write("x")
os.kill(os.getpid(), 0)
for attempt in (
    lambda: open("../secret"),
    lambda: open("../new", "w"),
    lambda: os.truncate("../secret", 0),
    lambda: os.rename("../secret", "taken"),
    lambda: os.kill(os.getppid(), 0),
    lambda: socket.socket(),
    lambda: socket.socketpair(type=socket.SOCK_DGRAM),
):
    try:
        attempt()
        print("out")
    except OSError:
        print("held")
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=work, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["held"] * 7
    assert (work / "mine").read_text() == "x"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("rules", [seccomp.Rules(), seccomp.Rules(network=True, metadata=False, own=7)])
def test_the_filter_does_the_same_on_each_machine(machine: str, rules: seccomp.Rules) -> None:
    numbers = {"x86_64": (0, 41, 53, 62, 90, 101, 56, 435), "aarch64": (63, 198, 199, 129, 52, 117, 220, 435)}[machine]
    read, socket_, pair, kill, chmod, ptrace, clone, clone3 = numbers
    architecture = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    code = seccomp.program(rules, machine)

    def answer(number: int, *arguments: int) -> str:
        return interpreted(code, architecture, number, arguments)

    assert answer(read, 3) == "allow"
    assert answer(ptrace, 16) == "refuse 1"
    assert (answer(clone, 0x11), answer(clone, 0x10000011)) == ("allow", "refuse 1")
    assert answer(clone3) == "refuse 38"
    assert answer(socket_, 1, 1) == "refuse 13"
    assert answer(socket_, 2, 1 | 0o2000000) == ("allow" if rules.network else "refuse 13")
    assert answer(socket_, 10, 2) == ("allow" if rules.network else "refuse 13")
    assert answer(socket_, 2, 3) == "refuse 13"
    assert (answer(pair, 1, 1), answer(pair, 1, 2)) == ("allow", "refuse 13")
    assert answer(chmod, 0, 0o644) == ("allow" if rules.metadata else "refuse 1")
    assert answer(chmod, 0, 0o4755) == "refuse 1"
    assert [answer(kill, pid) for pid in (0, 7, 8)] == ["allow"] * 2 + ["allow" if rules.own is None else "refuse 1"]
    assert interpreted(code, 0x40000003, 0, ()) == "kill"
    if machine == "x86_64":
        assert answer(0x40000000 | read) == "refuse 1"


def interpreted(code: bytes, architecture: int, number: int, arguments: tuple[int, ...]) -> str:
    """What the kernel does with a call, by the rules of its small machine."""
    import struct

    steps = list(struct.iter_unpack("=HBBI", code))
    data = struct.pack("=II8x6Q", number, architecture, *(arguments + (0,) * 6)[:6])
    at = accumulator = 0
    while True:
        operation, yes, no, value = steps[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x54:
                accumulator &= value
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x45:
                at += yes if accumulator & value else no
            case 0x06:
                kinds = {0x7FFF0000: "allow", 0x80000000: "kill"}
                return kinds.get(value) or f"refuse {value & 0xFFFF}"
            case _:
                raise AssertionError(operation)


def test_starting_a_child_of_a_tool_imports_nothing_of_others() -> None:
    code = "import sys, assistant.agent.host, assistant.agent.confine, assistant.tools; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("assistant")}
    assert not {"pydantic", "torch", "typer", "psutil", "griffe"} & set(done.stdout.split())
    assert len(ours) <= 10


def test_the_limitations_are_written_down() -> None:
    from assistant.agent import sandbox

    assert json.dumps(sandbox.__doc__).count("\\n- ") >= 6
