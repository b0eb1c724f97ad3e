"""Every command as a user or a script calls it: in a process of its own, judged by stdout, stderr and exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.cli import COMMANDS, main
from assistant.daemon.probe import listener
from assistant.protocol import Usage
from tests.assistant.command import PROGRAM, on_a_terminal, run, run_json
from tests.assistant.talk import with_client
from tests.conftest import RunningDaemon, wait_until


def test_ask_json_is_one_object_with_the_whole_usage_record(daemon: RunningDaemon) -> None:
    record = run_json("ask", "-c", "demo", "My dog is called Biscuit.")
    assert set(record) == {"conversation", "turn_id", "reply_id", "text", "finish", "model", "usage"}
    assert (record["conversation"], record["finish"], record["model"]) == ("demo", "stop", "fake")
    assert set(record["usage"]) == set(Usage.model_fields)
    again = run_json("ask", "-c", "demo", "turns")
    assert json.loads(again["text"])[0][1] == "My dog is called Biscuit."


def test_ask_streams_plain_text_and_keeps_stdout_clean(shared_daemon: RunningDaemon) -> None:
    done = run("ask", "hello there")
    assert done.stdout.startswith("You said:\n\n> hello there \n")
    assert done.stdout.endswith("That is *all*.\n")
    assert done.stderr == ""


def test_a_name_that_makes_a_conversation_is_said(daemon: RunningDaemon) -> None:
    assert run("ask", "-c", "trip", "hello").stderr == "assistant: new conversation 'trip'\n"
    assert run("ask", "-c", "trip", "hello").stderr == ""


def test_a_terminal_is_told_what_resuming_took(daemon: RunningDaemon) -> None:
    run("ask", "-c", "demo", "hello")
    known = 5 + len(run_json("export", "demo")["turns"][1]["text"])
    told = on_a_terminal("ask", "-c", "demo", "and now?", stream="stderr")
    assert f"assistant: resumed in 0.31 s: {known} tokens reused, 0 recomputed" in told
    assert run("ask", "-c", "demo", "once more").stderr == ""
    receipt = run_json("ask", "-c", "demo", "and again")["usage"]["receipt"]
    assert (receipt["recomputed"], receipt["source"], receipt["reason"]) == (0, "resident", None)
    assert run_json("ask", "-c", "another", "hello")["usage"]["receipt"] is None


def test_reading_again_is_said_with_its_reason_and_its_cost(start_daemon: Callable[..., RunningDaemon]) -> None:
    first = start_daemon()
    run("ask", "-c", "demo", "hello")
    first.signal(signal.SIGTERM)
    start_daemon()
    reason, cost = run("ask", "-c", "demo", "and now?").stderr.splitlines()
    assert reason.endswith("recomputed: the worker is new")
    assert re.fullmatch(r"assistant: reading \d+ tokens again took 1\.5 s", cost)


def test_a_notice_is_said_and_the_reply_goes_on(shared_daemon: RunningDaemon) -> None:
    for args in (["ask"], ["ask", "--json"]):
        done = run(*args, "notice The disk is full.")
        assert done.stderr == "assistant: The disk is full.\n"
        assert "I go on." in done.stdout


def test_mode_and_tiers_reach_the_worker(start_daemon: Callable[..., RunningDaemon], home: Path) -> None:
    start_daemon(ASSISTANT_KV_CODEC="int4", ASSISTANT_DISK="3GiB", ASSISTANT_RAM="1GiB")
    spec = json.loads(run("ask", "--mode", "exact", "spec").stdout)
    assert spec["mode"] == "exact"
    kv = {"folder": str(home / "state" / "kv"), "codec": "int4", "ram": 2**30, "disk": 3 * 2**30, "reserve": None}
    assert spec["kv"] == kv


def test_spill_off_keeps_nothing_on_disk(start_daemon: Callable[..., RunningDaemon], home: Path) -> None:
    start_daemon(ASSISTANT_SPILL="false", ASSISTANT_MODE="bounded")
    spec = json.loads(run("ask", "spec").stdout)
    assert (spec["mode"], spec["kv"]) == ("bounded", None)
    assert not (home / "state" / "kv").exists()


def test_ask_reads_standard_input(shared_daemon: RunningDaemon) -> None:
    assert "> from a pipe" in run("ask", text="from a pipe\n").stdout
    assert "> Explain. from a pipe" in run("ask", "Explain.", text="from a pipe\n").stdout
    assert "> from a pipe" in run("ask", "-", text="from a pipe\n").stdout


def test_flags_reach_the_daemon(daemon: RunningDaemon) -> None:
    run("ask", "-c", "demo", "--system", "Be kind.", "--max-tokens", "5", "--stop", "END", "--seed", "1", "hello")
    assert json.loads(run("ask", "-c", "demo", "turns").stdout)[0][:2] == ["system", "Be kind."]
    refused = run("ask", "-c", "demo", "--system", "Be rude.", "hello", code=2)
    assert "another system prompt" in refused.stderr


@pytest.mark.parametrize(
    ("args", "text", "code", "words"),
    [
        (["ask"], None, 2, "There is no question"),
        (["ask", "  \n "], None, 2, "There is no question"),
        (["agent"], None, 2, "Write one: assistant agent"),
        (["ask"], b"\xff\xfe binary", 2, "not UTF-8 text (byte 0); nothing was sent"),
        (["ask", "-c", "x" * 81, "q"], None, 2, "1 to 80 printable characters"),
        (["ask", "--model", "smollm2-135", "q"], None, 6, "smollm2-135m"),
        (["ask", "--model", "qwen3-8b", "q"], None, 6, "assistant models pull qwen3-8b"),
        (["ask", "--budget", "lots", "q"], None, 2, "not a size"),
        (["ask", "--temperature", "9", "q"], None, 2, "temperature"),
        (["ask", "--mode", "sometimes", "q"], None, 2, "'auto', 'exact' or 'bounded'"),
        (["ask", "--stop", "", "q"], None, 2, "--stop"),
        (["ask", "--no-such-flag", "q"], None, 2, "No such option"),
        (["ask", "fail 5 Needs 3 GiB."], None, 5, "Needs 3 GiB."),
        (["ask", "crash"], None, 1, "SIGKILL"),
        (["no-such-command"], None, 2, "No such command 'no-such-command'"),
        (["asc"], None, 2, "Did you mean 'ask'? See: assistant --help"),
        (["config", "show", "--orgin"], None, 2, "See: assistant config show --help"),
        (["ask", "--policy", "recal", "q"], None, 2, "nearest policy is 'recall'"),
        (["export", "nobody"], None, 2, "no conversation 'nobody'"),
        (["conversations", "rm", "nobody"], None, 2, "no conversation 'nobody'"),
        (["conversations", "rename", "nobody", "x"], None, 2, "no conversation 'nobody'"),
        (["search", " "], None, 2, "at least one word"),
        (["import", "/no/such/file"], None, 2, "/no/such/file cannot be read"),
        (["import", "/dev/null", "--as", "poem"], None, 2, "transcript or roles"),
    ],
)
def test_what_bad_input_gets(
    shared_daemon: RunningDaemon, args: list[str], text: bytes | None, code: int, words: str
) -> None:
    done = run(*args, text=text, code=code)
    *progress, last = [line for line in done.stderr.splitlines() if line.startswith("assistant: ")]
    assert words in last
    assert all(line.startswith(("assistant: Loading", "assistant: Reading")) for line in progress), "said once"
    if args[0] != "ask" or "crash" not in args:
        assert done.stdout == ""


def test_json_holds_the_error_too(shared_daemon: RunningDaemon) -> None:
    assert run_json("ask", "fail 5 Needs 3 GiB.", code=5) == {"error": "Needs 3 GiB.", "exit_code": 5}
    assert run_json("import", "/no/such/file", code=2)["exit_code"] == 2


def test_control_characters_are_taken_out_aloud(daemon: RunningDaemon) -> None:
    done = run("ask", "-c", "demo", text="a\x00b\x1b[31mc\ttab\r\nline")
    assert "took 2 control characters out" in done.stderr
    turns = with_client(lambda client: client.turns("demo"))
    assert turns[0].text == "ab[31mc\ttab\nline"


def test_a_megabyte_is_a_question(daemon: RunningDaemon) -> None:
    text = "turns " + "word " * 200_000
    run("ask", "-c", "demo", text=text)
    assert with_client(lambda client: client.turns("demo"))[0].text == text
    refused = run("ask", text="x" * (5 * 1024 * 1024), code=2)
    assert "nothing was sent" in refused.stderr


def test_escapes_do_not_reach_a_terminal(shared_daemon: RunningDaemon) -> None:
    assert "\x1b[31m" in run("ask", "escape").stdout
    shown = on_a_terminal("ask", "escape")
    assert "before red after" in shown
    assert "\x1b[31m" not in shown
    assert "\x1b]0;" not in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["ask", "chat"])
def test_a_signal_stops_the_reply_and_keeps_it(
    daemon: RunningDaemon, number: signal.Signals, code: int, command: str
) -> None:
    args = ["ask", "-c", "demo", "slow"] if command == "ask" else ["chat", "--plain", "-c", "demo"]
    with subprocess.Popen(
        [*PROGRAM, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        if command == "chat":
            client.stdin.write(b"slow\n")
        client.stdin.close() if command == "ask" else client.stdin.flush()
        assert client.stdout.read(7) == b"Waiting"
        client.send_signal(number)
        assert client.wait(20) == code
    wait_until(lambda: _last_state() == ("interrupted", "Waiting for the gate. "), "the partial is kept")


def test_a_background_job_that_ignores_interrupts_ends_when_told(daemon: RunningDaemon) -> None:
    ignore = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    ignoring = f"{ignore}; from assistant.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", ignoring, "ask", "-c", "demo", "slow"], stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.read(7) == b"Waiting"
        client.send_signal(signal.SIGTERM)
        assert client.wait(20) == 143
    wait_until(lambda: _last_state() == ("interrupted", "Waiting for the gate. "), "the partial is kept")


def _last_state() -> tuple[str, str]:
    turn = with_client(lambda client: client.turns("demo"))[-1]
    return turn.state, turn.text


def test_a_reader_that_leaves_early_is_no_error(daemon: RunningDaemon) -> None:
    run("ask", "-c", "demo", text="turns " + "word\n" * 100_000)
    with subprocess.Popen([*PROGRAM, "export", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.readline() == b"# demo\n"
        export.stdout.close()
        assert export.stderr.read() == b""


def test_export_in_three_forms(daemon: RunningDaemon) -> None:
    run("ask", "-c", "demo", "My dog is called Biscuit.")
    run("ask", "-c", "demo", "escape")
    markdown = run("export", "demo").stdout
    assert markdown.startswith("# demo\n")
    assert "**You**" in markdown
    assert "\x1b" not in markdown
    whole = json.loads(run("export", "demo", "--format", "json").stdout)
    assert (whole["name"], len(whole["turns"])) == ("demo", 4)
    assert run_json("export", "demo") == whole
    lines = [json.loads(line) for line in run("export", "demo", "--format", "jsonl").stdout.splitlines()]
    assert lines == whole["turns"]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_what_was_exported_can_be_imported(daemon: RunningDaemon, home: Path, form: str) -> None:
    run("ask", "-c", "demo", "My dog is called Biscuit.")
    file = home / f"again.{form}"
    file.write_text(run("export", "demo", "--format", form).stdout)
    run("import", str(file), "-c", "again")
    first, second = (run_json("export", name)["turns"] for name in ("demo", "again"))
    kept = ("role", "text", "created")
    assert [[turn[key] for key in kept] for turn in first] == [[turn[key] for key in kept] for turn in second]


def test_export_pages_through_long_conversations(daemon: RunningDaemon, home: Path) -> None:
    file = home / "long.json"
    file.write_text(json.dumps([{"role": "user", "content": f"line {number}"} for number in range(1203)]))
    run("import", str(file), "-c", "long")
    assert [turn["text"] for turn in run_json("export", "long")["turns"]] == [f"line {n}" for n in range(1203)]


def test_conversations_and_search(daemon: RunningDaemon) -> None:
    run("ask", "-c", "demo", "My dog is called Biscuit.")
    run("ask", "-c", "trip", "Lisbon in May")
    assert [row["name"] for row in run_json("conversations", "list")] == ["trip", "demo"]
    assert "Lisbon in May" in run("conversations", "list", "tri").stdout
    hit = run_json("search", "biscuit")[0]
    assert (hit["conversation"], hit["role"]) == ("demo", "user")
    assert "[Biscuit]" in run("search", "my", "bisc").stdout
    nothing = run("search", "zebra")
    assert (nothing.stdout, "no turn contains" in nothing.stderr) == ("", True)
    assert run_json("conversations", "rename", "trip", "portugal") == {"renamed": "trip", "name": "portugal"}
    assert "already a conversation 'demo'" in run("conversations", "rename", "portugal", "demo", code=2).stderr
    assert run_json("conversations", "rm", "demo", "portugal") == {"removed": ["demo", "portugal"]}
    assert run_json("conversations", "list") == []


def test_import_reports_what_was_stored(daemon: RunningDaemon, home: Path) -> None:
    dialogue = {
        "id": "talk/1",
        "sessions": [
            {"date_raw": "1:56 pm on 8 May, 2023", "turns": [{"speaker": "Ann", "text": "Hi!"}]},
            {"date": "2023-05-09", "turns": [{"speaker": "Ben", "text": "Look", "image_caption": "a dog"}]},
        ],
    }
    file = home / "talk.jsonl"
    file.write_text(json.dumps(dialogue) + "\n" + json.dumps(dialogue | {"id": "talk/2"}) + "\n")
    both = run_json("import", str(file))
    assert [row["conversation"] for row in both["conversations"]] == ["talk/1", "talk/2"]
    assert both["turns"] == 4
    one = run_json("import", str(file), "--limit", "1", "--conversation", "talk")
    (row,) = one["conversations"]
    assert (row["conversation"], row["turns"], row["model"]) == ("talk", 2, "fake")
    assert one["usage"] == row["usage"]
    assert row["usage"]["stored_tokens"] > 0
    texts = [turn["text"] for turn in run_json("export", "talk")["turns"]]
    assert "[1:56 pm on 8 May, 2023]\nAnn: Hi!" in texts[0]
    assert texts[1].endswith("Ben: Look [image: a dog]")
    again = run("import", str(file), "--limit", "1", "-c", "talk", code=2)
    assert "already a conversation 'talk' with 2 turns; nothing was stored" in again.stderr


def test_plain_chat(daemon: RunningDaemon) -> None:
    done = run("chat", "--plain", "-c", "demo", text="one\n\nfail 5 No room.\ntwo\n/quit\nthree\n")
    assert "> one" in done.stdout
    assert "> two" in done.stdout
    assert "three" not in done.stdout
    assert "\x1b" not in done.stdout
    assert "assistant: No room." in done.stderr


def test_plain_chat_does_everything_essential(daemon: RunningDaemon) -> None:
    lines = ["the red ferry", "/fork copy", "only in the copy", "/new other", "a blue boat", "/list", "/search ferry"]
    lines += ["/open demo", "/export", "/open nowhere", "/dance", "/usr/bin is no command", "/help"]
    done = run("chat", "--plain", "-c", "demo", text="\n".join(lines) + "\n")
    assert "\x1b" not in done.stdout + done.stderr
    for words in ("> a blue boat", "copy · 4 turns", "other · 2 turns", "demo: the red [ferry]", "> /usr/bin is no"):
        assert words in done.stdout
    exported = done.stdout[done.stdout.index("# demo") :]
    assert "the red ferry" in exported
    assert "only in the copy" not in exported
    assert "/search: turns of all conversations" in done.stdout
    assert "'nowhere'" in done.stderr
    assert "there is no command /dance" in done.stderr
    origins = {one.name: one.origin for one in with_client(lambda client: client.conversations())}
    assert origins == {"demo": None, "copy": "demo", "other": None}


def test_plain_chat_without_a_terminal_and_stop(daemon: RunningDaemon) -> None:
    with subprocess.Popen(
        [*PROGRAM, "chat", "-c", "demo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(b"slow\n")
        chat.stdin.flush()
        assert chat.stdout.read(7) == b"Waiting"
        chat.stdin.write(b"/stop\nagain\n\xff\n")
        chat.stdin.close()
        rest = chat.stdout.read()
        assert b"> again" in rest
        assert chat.wait(20) == 0
        assert chat.stderr is not None
        said = chat.stderr.read()
    assert b"what was written is kept" in said
    assert b"not UTF-8 text" in said
    states = [turn.state for turn in with_client(lambda client: client.turns("demo"))]
    assert states == ["done", "interrupted", "done", "done"]


def test_the_life_of_a_daemon(home: Path) -> None:
    path = home / "run" / "daemon.sock"
    assert run_json("daemon", "status", code=7) == {"running": False}
    assert run_json("daemon", "stop") == {"running": False, "pid": None, "stopped": False}
    started = run_json("daemon", "start")
    try:
        assert started == {"running": True, "pid": listener(path), "started": True}
        assert run_json("daemon", "start") == started | {"started": False}
        status = run_json("daemon", "status")
        assert (status["running"], status["pid"], status["model"]) == (True, started["pid"], None)
        second = run("daemon", "run", code=7)
        assert f"pid {started['pid']}" in second.stderr
        restarted = run_json("daemon", "restart")
        assert restarted["stopped_pid"] == started["pid"] != restarted["pid"] == listener(path)
        lines = run("daemon", "status").stdout.splitlines()
        assert {f"pid: {restarted['pid']}", "running: yes", "listen: -", "memory budget: 0 B"} <= set(lines)
    finally:
        stopped = run_json("daemon", "stop")
    assert stopped["stopped"]
    assert listener(path) is None


def test_a_daemon_in_the_foreground_ends_by_ctrl_c(home: Path) -> None:
    with subprocess.Popen([*PROGRAM, "daemon", "run"], stderr=subprocess.PIPE) as daemon:
        wait_until(lambda: listener(home / "run" / "daemon.sock") == daemon.pid, "it listens")
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(20) == 130
        assert daemon.stderr is not None
        assert daemon.stderr.read() == b""


def test_settings_of_the_caller_decide(daemon: RunningDaemon, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = home / "config" / "models.toml"
    catalog.write_text(catalog.read_text() + f'\n[other]\nsource = "file:{home / "fake"}"\n')
    assert run_json("ask", "--model", "other", "hello")["model"] == "other"
    monkeypatch.setenv("ASSISTANT_MODEL", "other")
    assert run_json("ask", "hello")["model"] == "other"
    monkeypatch.chdir(home)
    assert run_json("ask", "--model", "file:fake", "hello")["model"] == "fake"
    assert "names a user who does not exist" in run("ask", "--model", "file:~nobody-here/m", "hello", code=2).stderr
    (home / "assistant.toml").write_text("modle = 'x'\n")
    assert "'modle'" in run("ask", "hello", code=2).stderr


@pytest.fixture
def in_process(home: Path) -> Iterator[None]:
    """For `main` called here: what it changes in a process is put back."""
    mask, handler = os.umask(0o077), signal.getsignal(signal.SIGTERM)
    yield
    os.umask(mask)
    signal.signal(signal.SIGTERM, handler)


def test_help_of_every_command_has_an_example(in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        main([command, "--help"])
        shown = capsys.readouterr().out
        assert f"assistant {command}" in shown
        assert "COMMAND [ARGS]" in shown or "Example" in shown


def test_the_help_of_chat_is_that_of_the_app(in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--help"]) == 0
    assert {"--web", "--port"} <= set(capsys.readouterr().out.split())
    assert main(["chat", "--plain", "--help"]) == 0
    assert "/quit leaves" in " ".join(capsys.readouterr().out.split())


def test_help_and_version(in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"
    assert main([]) == 2
    assert main(["daemon"]) == 2


def test_chat_on_a_terminal_is_found_before_anything_heavy(home: Path) -> None:
    code = (
        "import sys, importlib.metadata as m\n"
        "m.EntryPoint.load = lambda found: lambda argv: print(found.value, *argv, *sys.modules) or 0\n"
        "sys.stdin.isatty = sys.stdout.isatty = lambda: True\n"
        "from assistant.cli import main\n"
        "sys.exit(main(['chat', '-c', 'demo']))\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[:3] == ["tui.app:main", "-c", "demo"]
    heavy = {"typer", "httpx2", "fastapi", "pydantic", "pydantic_settings", "sqlite_utils", "asyncio", "torch", "rich"}
    assert not heavy & set(words)


def test_no_command_imports_torch(home: Path) -> None:
    code = (
        "import sys, importlib\n"
        "from assistant.cli import COMMANDS\n"
        "[importlib.import_module(name) for name in COMMANDS.values()]\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "bitsandbytes", "textual"} & set(done.stdout.split())
