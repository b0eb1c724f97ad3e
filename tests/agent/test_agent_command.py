"""`assistant agent` as a script calls it: events, results, exit codes, and runs that are broken off and go on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from assistant.agent.events import schema
from tests.assistant.command import PROGRAM, run
from tests.conftest import RunningDaemon, wait_until

PUBLISHED = Path(__file__).parents[2] / "docs" / "agent-events.schema.json"
HARMLESS = "reads_private=False, brings_untrusted=False, can_send=False, can_write=False, can_exec=False"
TOOLS = f'''
from assistant.tools import declares

@declares({HARMLESS})
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b

@declares({HARMLESS.replace("can_write=False", "can_write=True")})
def keep(text: str) -> str:
    """Keep a text."""
    return "kept " + text

@declares({HARMLESS})
def wait(gate: str) -> str:
    """Wait for ever."""
    import time
    print("begun", flush=True)
    time.sleep(1000)
    return gate
'''
ADD = 'call add {"a": 1, "b": 2}'
KEEP = 'call keep {"text": "this"}'
WAIT = 'call wait {"gate": "none"}'


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    file = tmp_path / "tools.py"
    file.write_text(TOOLS)
    return file


def script(*lines: str) -> str:
    """A task that the scripted worker follows: a reply for each line."""
    return "\n".join(["Do it.", *lines])


def agent(tools: Path, *args: str, code: int = 0) -> list[dict[str, Any]]:
    """The events of a run; every line is one of the published schema, and the last one is the result."""
    done = run("agent", "--tools", str(tools), "--output", "stream-json", *args, code=code)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    valid = Draft202012Validator(json.loads(PUBLISHED.read_text()))
    for event in events:
        valid.validate(event)
    assert [event["type"] for event in events].count("result") == 1
    assert (events[-1]["type"], events[-1]["exit_code"], events[-1]["ok"]) == ("result", code, code == 0)
    return events


def states(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["tool"], event["state"]) for event in events if event["type"] == "call"]


def test_the_published_schema_is_that_of_the_events() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema(), "write it anew: see CONTRIBUTING or tests/agent"


def test_a_run_calls_its_tools_and_answers(daemon: RunningDaemon, tools: Path) -> None:
    events = agent(tools, script('call add {"a": 1, "b": 2} & add {"a": 3, "b": 4}', "The sums are 3 and 7."))
    first, result = events[0], events[-1]
    assert (first["type"], first["schema"], first["run"]) == ("start", 1, result["run"])
    assert [tool["name"] for tool in first["tools"]] == ["add", "keep", "wait"]
    assert sorted(states(events)) == [("add", "asked")] * 2 + [("add", "done")] * 2 + [("add", "running")] * 2
    ended = {event["id"]: event["result"] for event in events if event.get("state") == "done"}
    assert sorted(ended.values()) == ["add(a=1, b=2) returned: 3", "add(a=3, b=4) returned: 7"]
    assert (result["reason"], result["text"]) == ("done", "The sums are 3 and 7.")
    assert (result["steps"], result["calls"]) == (2, 2)
    assert result["usage"]["cached_tokens"] > 0


def test_text_is_the_answer_alone(daemon: RunningDaemon, tools: Path, tmp_path: Path) -> None:
    into = tmp_path / "answer.txt"
    done = run("agent", "--tools", str(tools), "-o", str(into), script(ADD, "It is 3."))
    assert done.stdout == "It is 3.\n"
    assert "add(a=1, b=2)" in done.stderr
    assert into.read_text() == "It is 3.\n"


def test_json_is_the_result_alone(daemon: RunningDaemon, tools: Path) -> None:
    told = json.loads(run("agent", "--tools", str(tools), "--output", "json", script("Nothing to do.")).stdout)
    assert (told["type"], told["text"], told["calls"]) == ("result", "Nothing to do.", 0)


def test_an_answer_that_follows_a_schema_comes_as_json(daemon: RunningDaemon, tools: Path, tmp_path: Path) -> None:
    shape = tmp_path / "shape.json"
    shape.write_text('{"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}')
    assert agent(tools, "--output-schema", str(shape), script('{"sum": 3}'))[-1]["answer"] == {"sum": 3}
    shape.write_text('{"type": "no such type"}')
    refused = agent(tools, "--output-schema", str(shape), "Do it.", code=2)
    assert "JSON schema" in refused[-1]["text"]


def test_a_call_that_needs_a_yes_ends_the_run_and_can_be_allowed(daemon: RunningDaemon, tools: Path) -> None:
    first = agent(tools, script(f"{ADD} & {KEEP.removeprefix('call ')}", "Kept."), code=4)
    assert ("keep", "waiting") in states(first)
    assert ("add", "done") in states(first), "what may be done is done"
    assert "--approve keep" in first[-1]["text"]
    again = agent(tools, "--resume", first[-1]["run"], code=4)
    assert states(again) == [("keep", "asked"), ("keep", "waiting")]
    last = agent(tools, "--resume", "last", "--approve", "keep")
    assert states(last) == [("keep", "asked"), ("keep", "running"), ("keep", "done")], "no call is made twice"
    assert last[-1]["text"] == "Kept."


def test_a_run_whose_answer_was_cut_is_resumed_with_a_larger_limit(daemon: RunningDaemon, tools: Path) -> None:
    cut = run("agent", "--tools", str(tools), "--max-tokens", "2", script(ADD, "cut one two three"), code=3)
    assert "cut at" in cut.stderr
    assert "--resume" in cut.stderr
    last = agent(tools, "--resume", "last", "--max-tokens", "20")
    assert last[-1]["text"] == "one two three"
    assert states(last) == [], "no call is made twice"


def test_a_run_that_has_answered_stays_done(daemon: RunningDaemon, tools: Path) -> None:
    agent(tools, script("Well."))
    listed = run("agent", "--list").stdout
    for flag in ("--resume", "--fork"):
        refused = run("agent", "--tools", str(tools), flag, "last", code=2)
        assert "answered already" in refused.stderr
        assert "--resume" not in refused.stderr, "advice that leads nowhere"
    assert run("agent", "--list").stdout == listed


def test_a_policy_can_allow_and_deny(daemon: RunningDaemon, tools: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ntool = "keep"\ndecision = "allow"\n[[rule]]\ntool = "add"\ndecision = "deny"\n')
    events = agent(tools, "--rules", str(rules), script(KEEP, ADD, "Well."))
    assert ("keep", "done") in states(events)
    assert ("add", "denied") in states(events)
    assert events[-1]["text"] == "Well.", "what the policy denies is told to the model"


def test_a_model_that_goes_in_circles_is_asked_for_its_answer(daemon: RunningDaemon, tools: Path) -> None:
    events = agent(tools, script(*[ADD] * 5, "It is 3."))
    assert events[-1]["text"] == "It is 3."
    assert [event["text"] for event in events if event["type"] == "note"] == [
        "The model calls add with the same arguments again and again. It is asked for its answer."
    ]


def test_the_same_call_for_ever_is_ended(daemon: RunningDaemon, tools: Path) -> None:
    events = agent(tools, script(*[ADD] * 9), code=1)
    assert events[-1]["reason"] == "repeated_call"
    assert states(events).count(("add", "running")) == 3
    assert states(events).count(("add", "failed")) == 2, "it is told, then asked for its answer"


@pytest.mark.parametrize(
    ("line", "reason", "code"),
    [
        ("half add", "unreadable_calls", 1),
        ('call subtract {"a": 1}', "done", 0),
        ('call add {"a": "one", "b": 2}', "done", 0),
        ('call add {"a": 1, "b": 2, "c": 3}', "done", 0),
    ],
)
def test_calls_that_cannot_be_made_are_told_to_the_model(
    daemon: RunningDaemon, tools: Path, line: str, reason: str, code: int
) -> None:
    events = agent(tools, script(*[line] * (3 if code else 1), "I see."), code=code)
    assert events[-1]["reason"] == reason
    assert not [state for state in states(events) if state[1] == "running"]


def test_a_run_has_limits(daemon: RunningDaemon, tools: Path) -> None:
    calls = [f'call add {{"a": {number}, "b": 1}}' for number in range(5)]
    limited = agent(tools, "--max-turns", "2", script(*calls, "Done at last."), code=3)
    assert (limited[-1]["reason"], limited[-1]["steps"]) == ("step_limit", 2)
    assert agent(tools, "--resume", limited[-1]["run"])[-1]["text"] == "Done at last."
    timed = agent(tools, "--timeout", "1.5", script(WAIT), code=124)
    assert timed[-1]["reason"] == "timeout"
    slow = agent(tools, "--tool-timeout", "0.5", script(WAIT, "It hangs."))
    assert ("wait", "timeout") in states(slow)
    assert slow[-1]["text"] == "It hangs."


def test_a_dry_run_leaves_nothing(daemon: RunningDaemon, tools: Path) -> None:
    told = json.loads(run("agent", "--tools", str(tools), "--dry-run", "Do it.").stdout)
    assert (told["type"], told["run"]) == ("start", "")
    assert run("agent", "--list", "--output", "json").stdout == "[]\n"


def test_the_list_says_how_runs_ended(daemon: RunningDaemon, tools: Path) -> None:
    agent(tools, script("Fine."))
    agent(tools, script(KEEP), code=4)
    told = json.loads(run("agent", "--list", "--output", "json").stdout)
    assert [one["state"] for one in told] == ["denied", "done"]
    assert "denied" in run("agent", "--list").stdout


def test_a_fork_goes_on_by_itself(daemon: RunningDaemon, tools: Path) -> None:
    first = agent(tools, script(KEEP, "Kept."), code=4)
    fork = agent(tools, "--fork", first[-1]["run"], "--approve", "keep")
    assert fork[-1]["text"] == "Kept."
    assert fork[-1]["run"] != first[-1]["run"]
    assert ("keep", "waiting") in states(agent(tools, "--resume", first[-1]["run"], code=4))


def test_a_tool_that_changed_must_be_looked_at(daemon: RunningDaemon, tools: Path) -> None:
    first = agent(tools, script(KEEP, ADD, "Kept."), code=4)
    tools.write_text(TOOLS.replace("return a + b", "return a - b"))
    refused = agent(tools, "--resume", first[-1]["run"], "--approve", "keep", code=2)
    assert "definition of add changed" in refused[-1]["text"]
    last = agent(tools, "--resume", first[-1]["run"], "--approve", "keep", "--approve", "add")
    results = [event["result"].split(" returned: ")[1] for event in last if event.get("state") == "done"]
    assert results == ["kept this", "-1"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--resume", "abcdef"], "no program"),
        (["--resume", "last", "Do it."], "has its task already"),
        (["--resume", "last", "--fork", "last"], "not both"),
        (["--builtin", "no_such", "Do it."], "no built-in tool"),
        (["--sandbox", "cardboard", "Do it."], "no sandbox"),
        (["--rules", "no-such-file.toml", "Do it."], "no-such-file.toml"),
        (["--temperature", "9", "Do it."], "temperature"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    shared_daemon: RunningDaemon, tools: Path, args: list[str], words: str
) -> None:
    assert words in agent(tools, *args, code=2)[-1]["text"]


def begun(tools: Path, *lines: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own."""
    command = [*PROGRAM, "agent", "--tools", str(tools), "--output", "stream-json", script(*lines)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until_running(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Events up to the one that says that a tool runs."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        yield event
        if event.get("state") == "running":
            return


def below(pid: int) -> set[int]:
    """Every process that this one began, and those that they began."""
    found: set[int] = set()
    left = [pid]
    while left:
        try:
            children = Path(f"/proc/{left[0]}/task/{left[0]}/children").read_text().split()
        except OSError:
            children = []
        found |= set(map(int, children))
        left = left[1:] + list(map(int, children))
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_and_ends_its_tools(
    daemon: RunningDaemon, tools: Path, number: signal.Signals, code: int
) -> None:
    process = begun(tools, WAIT, "I waited.")
    run_id = next(until_running(process))["run"]
    list(until_running(process))
    wait_until(lambda: len(below(process.pid)) > 0, "the tool runs")
    children = below(process.pid)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    last = json.loads(out.splitlines()[-1])
    assert (process.returncode, last["exit_code"], last["run"]) == (code, code, run_id)
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "no tool is left")
    assert agent(tools, "--resume", run_id)[-1]["text"] == "I waited."


@pytest.mark.parametrize("killed", ["agent", "daemon", "worker"])
def test_a_run_that_is_killed_in_mid_call_goes_on_without_repeating_it(
    start_daemon: Callable[..., RunningDaemon], tools: Path, killed: str
) -> None:
    daemon = start_daemon()
    process = begun(tools, ADD, WAIT, "I go on.")
    events = [*until_running(process), *until_running(process)]
    assert events[-1]["tool"] == "wait" or list(until_running(process))
    wait_until(lambda: len(below(process.pid)) > 0, "the tool runs")
    victims = {"agent": process.pid, "daemon": daemon.pid, "worker": max(below(daemon.pid))}
    children = below(process.pid)
    os.kill(victims[killed], signal.SIGKILL)
    if killed == "daemon":
        start_daemon()
    if killed != "agent":
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "no tool is left")
    last = agent(tools, "--resume", events[0]["run"])
    assert last[-1]["text"] == "I go on."
    assert ("wait", "running") not in states(last)
    assert ("add", "running") not in states(last)


def test_a_daemon_that_dies_during_a_call_is_a_sentence(
    start_daemon: Callable[..., RunningDaemon], tools: Path
) -> None:
    daemon = start_daemon()
    command = [*PROGRAM, "agent", "--tools", str(tools), "--output", "stream-json", "--tool-timeout", "1"]
    process = subprocess.Popen([*command, script(WAIT)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    list(until_running(process))
    daemon.signal(signal.SIGKILL)
    out, err = process.communicate(timeout=20)
    last = json.loads(out.splitlines()[-1])
    assert (process.returncode, last["type"], last["exit_code"], last["reason"]) == (7, "result", 7, "daemon")
    assert b"Traceback" not in err


@pytest.mark.parametrize(("typed", "code"), [("y", 0), ("no, not this one", 0), ("\x03", 130)])
def test_at_a_terminal_one_is_asked(daemon: RunningDaemon, tools: Path, typed: str, code: int) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "agent", "--tools", str(tools), script(KEEP, "Well.")],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)),
    )
    os.close(theirs)
    shown = b""
    while b"[y] once" not in shown:
        shown += os.read(ours, 4096)
    assert b'keep({"text":"this"})' in shown.replace(b" ", b"")
    os.write(ours, typed.encode() + b"\n")
    assert process.stdout is not None
    out = process.stdout.read().decode()
    assert process.wait(20) == code
    process.stdout.close()
    os.close(ours)
    if code == 0:
        assert out == "Well.\n"
        asked = agent(tools, "--fork", "last", code=2)[-1]["text"]
        assert "answered already" in asked


def test_a_model_that_calls_tools_badly_is_named(daemon: RunningDaemon, home: Path, tools: Path) -> None:
    task = ["agent", "--tools", str(tools), script("Done.")]
    assert "calls tools badly" not in run(*task).stderr
    catalogue = home / "config" / "models.toml"
    catalogue.write_text(catalogue.read_text().replace("tool_capable = true", "tool_capable = false"))
    assert (
        "fake calls tools badly, so that its answers may be wrong; made for tools: smollm2-1.7b, qwen3-4b"
        in run(*task).stderr
    )
