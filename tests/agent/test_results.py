"""Whatever a tool does, its call ends in a result that says what happened, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from assistant.agent.definition import Tool, Traits
from assistant.agent.execution import Result, execute
from assistant.agent.limits import KIB, MIB, Limits
from assistant.agent.permit import Permit, arguments_digest
from assistant.agent.running import run_child
from assistant.agent.sandbox import Sandbox, find_sandbox
from assistant.agent.toolbox import Toolbox
from assistant.places import find_places
from assistant.protocol import ToolSpec
from tests.agent.calling import call, permit_for, tool_of, tools_file
from tests.conftest import wait_until

BACK_ENDS = [name for name in ("bubblewrap", "landlock") if find_sandbox(name)] or ["none"]
DECLARE = "from assistant.tools import declares\n\n@declares(can_write=False, can_exec=False)\n"


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where calls have their folders. At the end none is left, and no process whose environment names one."""
    folder, began = tmp_path_factory.mktemp("scratch"), time.time()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    wait_until(lambda: running_in(folder) == [], "nothing of the call runs")
    assert list(folder.iterdir()) == []
    mine = [child for child in psutil.Process().children() if child.create_time() >= began]
    assert [child for child in mine if child.status() == psutil.STATUS_ZOMBIE] == []


@pytest.fixture(params=BACK_ENDS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox | None:
    """Each that works here."""
    return find_sandbox(request.param)


def running_in(folder: Path) -> list[int]:
    """Processes of calls that have their folder there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME", "").startswith(str(folder)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def result_of(
    tmp_path: Path, sandbox: Sandbox | None, body: str, *, head: str = "", limits: Limits | None = None
) -> Result:
    """The result of a tool with this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f'{head}\n{DECLARE}def tool():\n    """Do it."""\n{lines}'
    return asyncio.run(call(tool_of(tmp_path, text), sandbox, limits))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return 'as it is: é \"quoted\"'", 'as it is: é "quoted"'),
        ("return {'a': [1, 2.5, None, True], 'ü': 'ß'}", '{"a": [1, 2.5, null, true], "ü": "ß"}'),
        ("return 391", "391"),
        ("return None", "null"),
        ("return ''", ""),
        ("return '\\ud800 broken'", "? broken"),
    ],
)
def test_text_and_json_come_back(scratch: Path, tmp_path: Path, sandbox: Sandbox, body: str, text: str) -> None:
    result = result_of(tmp_path, sandbox, body)
    assert (result.text, result.error, result.kind, result.cut) == (text, False, "done", 0)
    assert 0 < result.seconds < 20


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return b'bytes'", "It returned bytes"),
        ("return float('nan')", "It returned NaN"),
        ("return [1, float('inf')]", "It returned NaN, infinity"),
        ("a = []; a.append(a); return a", "holds itself"),
        ("return object()", "neither text nor JSON: Object of type object"),
        ("return {1, 2}", "neither text nor JSON: Object of type set"),
        ("raise ValueError('no such city')", "ValueError: no such city (tools.py, line 7)"),
        ("raise ValueError", "ValueError"),
        ("import sys; sys.exit(3)", "It called sys.exit(3) (tools.py, line 7)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(Exception):\n  def __str__(self): raise RuntimeError\nraise E", "E (tools.py, line 9)"),
        ("def f(): return f()\nreturn f()", "RecursionError: maximum recursion depth exceeded"),
        ("import os; os._exit(7)", "ended with exit status 7 before it answered"),
        ("import ctypes; ctypes.string_at(0)", "ended by the signal SIGSEGV before it answered"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by the signal SIGKILL"),
        ("x = b'x' * (1 << 40)", "MemoryError"),
        ("while True: pass", "processor time"),
        ("import os; os.write(3, b'junk\\n'); os._exit(0)", "before it answered"),
        ("import os; [os.write(fd, b'[1]\\n') for fd in range(3, 9) if os.path.exists('/')]", "before it answered"),
    ],
)
def test_what_goes_wrong_is_an_error_in_a_sentence(
    scratch: Path, tmp_path: Path, sandbox: Sandbox, body: str, said: str
) -> None:
    result = result_of(tmp_path, sandbox, body, limits=Limits(cpu_s=1))
    assert said in result.text
    assert "Traceback" not in result.text
    assert (result.error, result.kind) == (True, "failed")


def test_what_a_tool_prints_is_told_beside_its_result(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    body = "import os, sys\nprint('one')\nprint('two', file=sys.stderr)\nos.system('echo three')\nreturn 'done'"
    result = result_of(tmp_path, sandbox, body)
    assert result.text.startswith("done\n\nPrinted:\n")
    assert sorted(result.text.splitlines()[-3:]) == ["one", "three", "two"]
    assert not result.error


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.stdout.close(); return 'still here'",
        "import os; os.close(1); return 'still here'",
        "import sys; sys.stdout = sys.stderr = None; return 'still here'",
        "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); return 'still here'",
        "import os, time\nif os.fork() == 0: time.sleep(600)\nreturn 'still here'",
        "import atexit, time; atexit.register(time.sleep, 600); return 'still here'",
        "import sys; assert sys.stdin.read() == ''; return 'still here'",
    ],
)
def test_a_tool_that_closes_or_leaves_something_answers_all_the_same(
    scratch: Path, tmp_path: Path, sandbox: Sandbox, body: str
) -> None:
    began = time.monotonic()
    assert result_of(tmp_path, sandbox, body).text == "still here"
    assert time.monotonic() - began < 20


def test_an_asynchronous_tool_is_awaited(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    text = f'{DECLARE}async def tool(a: int) -> int:\n    """Do it."""\n    import asyncio\n'
    text += "    await asyncio.sleep(0)\n    return a + 1\n"
    assert asyncio.run(call(tool_of(tmp_path, text), sandbox, a=1)).text == "2"


@pytest.mark.parametrize(
    "body",
    [
        "print('é' * 50_000_000)",
        "import sys\nfor _ in range(1600): sys.stderr.write('x' * 65536)",
        "return 'x' * 100_000_000",
    ],
)
def test_a_hundred_megabytes_are_cut_in_constant_memory(
    scratch: Path, tmp_path: Path, sandbox: Sandbox, body: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = result_of(tmp_path, sandbox, body)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB
    assert len(result.text.encode()) <= 64 * KIB
    assert result.cut >= 49_000_000
    assert "characters left out" in result.text
    assert grown < 16 * MIB


def test_head_and_tail_are_kept_and_what_is_missing_is_counted(scratch: Path, tmp_path: Path) -> None:
    result = result_of(tmp_path, find_sandbox(), "return 'first ' + 'é' * 200_000 + ' last'")
    head, notice, tail = result.text.split("\n")
    assert head.startswith("first é")
    assert tail.endswith("é last")
    assert notice == f"[... {result.cut:,} characters left out ...]"
    assert len(head) + len(tail) + result.cut == len("first  last") + 200_000


def test_a_tool_that_hangs_is_stopped_with_all_it_started(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    body = """
import os, signal, time
print("begun", flush=True)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    os.fork()
time.sleep(600)
"""
    began = time.monotonic()
    result = result_of(tmp_path, sandbox, body, limits=Limits(seconds=1.5))
    assert (result.kind, result.error) == ("timeout", True)
    assert result.text.startswith("The tool tool was stopped after 1.5 s")
    assert result.text.endswith("Printed:\nbegun")
    assert time.monotonic() - began < 10


def test_a_tool_s_own_time_goes_before_the_run_s(scratch: Path, tmp_path: Path) -> None:
    text = DECLARE.replace("can_exec=False", "can_exec=False, timeout_s=0.5")
    tool = tool_of(tmp_path, f'{text}def tool():\n    """Do it."""\n    import time\n    time.sleep(600)\n')
    result = asyncio.run(call(tool, find_sandbox()))
    assert "after 0.5 s" in result.text


def test_a_call_that_is_cancelled_leaves_nothing(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    text = f'{DECLARE}def tool():\n    """Do it."""\n    import os, time\n    os.fork()\n    time.sleep(600)\n'
    tool = tool_of(tmp_path, text)

    async def cancelled() -> None:
        task = asyncio.create_task(call(tool, sandbox))
        while len(await asyncio.to_thread(running_in, scratch)) < 2:
            assert not task.done(), task.result()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancelled(), 30))


@pytest.mark.parametrize("turns", range(6))
def test_one_that_is_cancelled_as_it_starts_leaves_no_pipe(tmp_path: Path, turns: int) -> None:
    """After so many turns of the loop: each pipe is connected in turns of its own."""

    async def cancelled() -> None:
        child = run_child(
            ["sleep", "600"], stdin=b"", env=os.environ, folder=tmp_path, limits=Limits(), seconds=600, framed=True
        )
        task = asyncio.create_task(child)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancelled())
    gc.collect()  # a pipe that was lost says so, and a warning is an error


def test_calls_can_run_side_by_side(scratch: Path, tmp_path: Path) -> None:
    body = '    """Do it."""\n    import os, time\n    open("mine", "x").close()\n    time.sleep(1)\n    return a\n'
    tool = tool_of(tmp_path, f"{DECLARE}def tool(a: int):\n{body}")

    async def all_of_them() -> list[Result]:
        return await asyncio.gather(*(call(tool, find_sandbox(), a=number) for number in range(8)))

    began = time.monotonic()
    assert [result.text for result in asyncio.run(all_of_them())] == [str(number) for number in range(8)]
    assert time.monotonic() - began < 8


def test_the_child_sees_an_empty_folder_and_no_environment_of_ours(
    scratch: Path, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    body = "import os\nreturn [dict(os.environ), os.listdir('.'), os.getcwd()]"
    environment, entries, folder = json.loads(result_of(tmp_path, sandbox, body).text)
    assert "A_TOKEN" not in environment
    assert (entries, environment["HOME"], environment["TMPDIR"]) == ([], folder, folder)


def test_a_tool_reads_what_lies_beside_its_file(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "data.txt").write_text("beside")
    (tmp_path / "helper.py").write_text("def shout(text):\n    return text.upper()\n")
    body = f"import helper\nreturn helper.shout(open({str(tmp_path / 'data.txt')!r}).read())"
    assert result_of(tmp_path, sandbox, body).text == "BESIDE"


def test_a_tools_file_in_the_home_opens_nothing_else_of_it(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "private.txt").write_text("secret")
    result = result_of(tmp_path, sandbox, f"return open({str(tmp_path / 'private.txt')!r}).read()")
    assert result.error
    assert "private.txt" in result.text
    assert result_of(tmp_path, sandbox, "return 'but it runs'").text == "but it runs"


def test_a_file_that_changed_since_it_was_loaded_is_not_run(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    text = f'{DECLARE}def tool():\n    """Do it."""\n    return helper()\n\ndef helper() -> str:\n    """H."""\n'
    tool = tool_of(tmp_path, text + "    return 'good'\n")
    tools_file(tmp_path, text + "    return 'bad'\n")
    result = asyncio.run(call(tool, sandbox))
    assert result.text == "The file tools.py changed since the run began; start the run again to use it."
    assert result.error


@pytest.mark.parametrize(
    "spoil",
    [
        lambda permit: Permit("other", permit.digest, permit.arguments),
        lambda permit: Permit(permit.tool, "0" * 64, permit.arguments),
        lambda permit: Permit(permit.tool, permit.digest, arguments_digest({"a": 2})),
    ],
)
def test_nothing_runs_with_a_permit_for_something_else(
    scratch: Path, tmp_path: Path, spoil: Callable[[Permit], Permit]
) -> None:
    ran = tmp_path / "ran"
    tool = tool_of(tmp_path, f'{DECLARE}def tool(a: int):\n    """Do it."""\n    open({str(ran)!r}, "w")\n')
    arguments = {"a": 1}

    async def with_permit(permit: Permit) -> Result:
        return await execute(tool, arguments, permit=permit, sandbox=None, places=find_places())

    refused = asyncio.run(with_permit(spoil(permit_for(tool, arguments))))
    assert (refused.kind, refused.error) == ("refused", True)
    assert not ran.exists()
    assert asyncio.run(with_permit(permit_for(tool, arguments))).kind == "done"
    assert ran.exists()


NETWORK = '''
from assistant.tools import declares

def ask(port):
    import socket
    with socket.create_connection(("127.0.0.1", port)) as connection:
        return connection.recv(16).decode()

@declares(can_write=False, can_exec=False, can_send=True)
def declared(port: int) -> str:
    """Ask."""
    return ask(port)

@declares(can_write=False, can_exec=False)
def undeclared(port: int) -> str:
    """Ask."""
    return ask(port)

TOOLS = [declared, undeclared]
'''


def test_only_a_tool_that_asked_for_it_has_a_network(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    box = Toolbox.load(tools_file(tmp_path, NETWORK), ())
    served = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        writer.write(b"served")
        await writer.drain()
        writer.close()

    async def both() -> tuple[Result, Result]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return (
                await call(box.find("declared"), sandbox, port=port),
                await call(box.find("undeclared"), sandbox, port=port),
            )

    declared, undeclared = asyncio.run(both())
    assert declared.text == "served"
    assert "PermissionError" in undeclared.text
    assert served == 1


_AGENT = """
import asyncio, pathlib, tempfile
from assistant.agent.definition import Tool, Traits
from assistant.agent.execution import execute
from assistant.agent.permit import Permit, arguments_digest
from assistant.agent.running import run_child
from assistant.agent.sandbox import find_sandbox
from assistant.agent.toolbox import Toolbox
from assistant.places import find_places

sandbox = find_sandbox({name!r})
tempfile.tempdir = {scratch!r}
tool = Toolbox.load(pathlib.Path({file!r}), ()).find("tool")
permit = Permit("tool", tool.digest, arguments_digest(dict()))
asyncio.run(execute(tool, dict(), permit=permit, sandbox=sandbox, places=find_places()))
"""


def test_a_tool_whose_agent_is_killed_ends_with_it(scratch: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    tools_file(
        tmp_path, f'{DECLARE}def tool():\n    """Do it."""\n    import os, time\n    os.fork()\n    time.sleep(600)\n'
    )
    code = _AGENT.format(
        file=str(tmp_path / "tools.py"), scratch=str(scratch), name=sandbox.name if sandbox else "none"
    )
    agent = subprocess.Popen([sys.executable, "-P", "-c", code])
    wait_until(lambda: len(running_in(scratch)) >= 3, "the tool runs")
    agent.kill()
    agent.wait()
    wait_until(lambda: running_in(scratch) == [], "it ends with the agent")
    for folder in scratch.iterdir():  # nobody was left to remove it
        for path in (folder / "library" / "assistant", folder / "library", folder / "work", folder):
            path.unlink() if path.is_symlink() else path.rmdir()


def test_a_tool_that_runs_here_fails_and_ends_in_time_too() -> None:
    async def hangs(_: Mapping[str, object]) -> str:
        await asyncio.Event().wait()
        return ""

    spec = ToolSpec(name="tool", description="Do it.", parameters={"type": "object", "properties": {}})

    def result_of_tool(run: Callable[[Mapping[str, object]], Awaitable[str]]) -> Result:
        tool = Tool(spec, Traits.of(), "mcp:server", run=run)
        return asyncio.run(call(tool, None, Limits(seconds=0.2)))

    async def breaks(_: Mapping[str, object]) -> str:
        raise KeyError("what the server said")

    assert result_of_tool(breaks).text == "The tool tool failed: KeyError: 'what the server said'"
    assert (result_of_tool(hangs).kind, result_of_tool(hangs).error) == ("timeout", True)
    nothing = asyncio.run(call(Tool(spec, Traits.of(), "mcp:server")))
    assert (nothing.kind, nothing.text) == ("refused", "The tool tool cannot be run from here.")
