"""The built-in tools: reading stays below the working directory, the history is searched, code runs in the sandbox."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from assistant.agent.builtin import DEFAULT, NAMES, builtin_tools
from assistant.agent.definition import Traits
from assistant.agent.execution import Result
from assistant.agent.sandbox import find_sandbox
from assistant.agent.toolbox import BadCall, Toolbox
from assistant.errors import UsageError
from assistant.places import Places, find_places
from tests.agent.calling import call
from tests.assistant.command import run_json
from tests.conftest import RunningDaemon


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A working directory, with something beside it."""
    (tmp_path / "outside.txt").write_text("not yours")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "a.txt").write_text("".join(f"line {number}\n" for number in range(1, 501)))
    (root / "link").symlink_to("../outside.txt")
    (root / "way").symlink_to("..")
    (root / "inner").symlink_to("a.txt")
    os.mkfifo(root / "fifo")
    (root / "binary").write_bytes(b"PNG\0\1\2")
    return root


def used(root: Path, name: str, /, **arguments: object) -> Result:
    """The result of a call of a built-in tool that works in `root`."""
    box = Toolbox(builtin_tools(NAMES, root, find_places()))
    return asyncio.run(call(box.find(name), find_sandbox(), **box.validated(name, arguments)))


def test_a_file_is_read_by_lines(root: Path) -> None:
    assert used(root, "read_file", path="a.txt", first_line=3, lines=2).text == (
        "line 3\nline 4\n[lines 3 to 4; the file goes on]"
    )
    assert used(root, "read_file", path="inner", first_line=499).text == "line 499\nline 500\n"
    assert used(root, "read_file", path="a.txt").text.endswith("[lines 1 to 200; the file goes on]")
    assert used(root, "read_file", path="a.txt", lines=10**9).text.endswith("[lines 1 to 400; the file goes on]")
    assert used(root, "read_file", path="a.txt", first_line=501).text == "[a.txt has fewer than 501 lines]"


def test_a_line_without_an_end_is_cut(root: Path) -> None:
    (root / "long").write_text("x" * 10_000_000)
    result = used(root, "read_file", path="long")
    assert len(result.text) <= 64 * 1024
    assert result.cut > 0


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../outside.txt", "lies outside of the working directory"),
        ("link", "lies outside of the working directory"),
        ("way/outside.txt", "lies outside of the working directory"),
        ("/etc/passwd", "lies outside of the working directory"),
        ("folder/../../outside.txt", "lies outside of the working directory"),
        ("none.txt", "There is no 'none.txt' in the working directory"),
        ("a\0b", "There is no 'a\\x00b' in the working directory"),
        ("fifo", "is not a file that can be read"),
        ("folder", "is not a file that can be read"),
        ("binary", "is not text"),
    ],
)
def test_what_is_no_file_below_the_working_directory_is_not_read(root: Path, path: str, why: str) -> None:
    result = used(root, "read_file", path=path)
    assert (result.error, result.kind) == (True, "failed")
    assert why in result.text
    assert "not yours" not in result.text


def test_a_folder_is_listed(root: Path) -> None:
    listed = used(root, "list_dir").text.splitlines()
    assert listed == ["a.txt 4392", "binary 6", "fifo 0", "folder/", "inner (link)", "link (link)", "way (link)"]
    assert used(root, "list_dir", path="folder").text == "[empty]"
    assert "lies outside" in used(root, "list_dir", path="way").text
    assert "is not a folder" in used(root, "list_dir", path="a.txt").text
    for number in range(600):
        (root / "folder" / f"{number:03}").touch()
    assert used(root, "list_dir", path="folder").text.splitlines()[-1] == "[and more]"


def test_what_the_assistant_keeps_is_not_read_wherever_it_lies(home: Path) -> None:
    history = home / "data" / "history.db"
    history.parent.mkdir()
    history.write_text("private")
    assert "belongs to the assistant itself" in used(home, "read_file", path="data/history.db").text
    assert "belongs to the assistant itself" in used(home, "list_dir", path="data").text
    shown = used(home, "shell", command='cat "$ROOT"/data/history.db; cat "$ROOT"/fake/config.json')
    assert "private" not in shown.text
    assert "llama" in shown.text


def test_the_history_is_searched(daemon: RunningDaemon, places: Places, tmp_path: Path) -> None:
    run_json("ask", "-c", "dogs", "My dog is called Biscuit.")
    found = used(tmp_path, "search_history", words="biscuit dog").text
    assert "user in dogs: My [dog] is called [Biscuit]." in found
    assert used(tmp_path, "search_history", words="unicorn").text == "Nothing was found."


def test_code_is_run_and_what_it_prints_is_the_result(root: Path) -> None:
    assert used(root, "python", code="print(17 * 23)").text == "391\n"
    failed = used(root, "python", code="print('before')\n1 / 0")
    assert (failed.error, failed.kind) == (True, "failed")
    assert failed.text.startswith("It ended with exit status 1.\n\nPrinted:\nbefore\n")
    assert failed.text.endswith("ZeroDivisionError: division by zero")


def test_a_command_reads_the_working_directory_and_writes_nothing_there(root: Path) -> None:
    assert used(root, "shell", command='head -n 1 "$ROOT"/a.txt; echo x > y; ls').text == "line 1\ny\n"
    assert used(root, "shell", command='echo x > "$ROOT"/new').error
    assert used(root, "shell", command="exit 3").text == "It ended with exit status 3."
    assert not (root / "new").exists()


def test_code_has_no_network(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        assert "PermissionError" in used(root, "python", code=code).text
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_shell_is_off_until_it_is_asked_for(root: Path) -> None:
    names = [tool.name for tool in Toolbox.load(None, root=root, places=find_places()).tools]
    assert names == sorted(DEFAULT) == ["list_dir", "python", "read_file", "search_history"]
    with pytest.raises(UsageError, match="no built-in tool 'bash'; there are: list_dir, python"):
        Toolbox.load(None, ("bash",), root=root)


def test_each_says_what_it_may_do(root: Path) -> None:
    found = {tool.name: tool.traits for tool in builtin_tools(NAMES, root, find_places())}
    private = Traits.of("reads_private", "brings_untrusted")
    assert found == {
        "list_dir": private,
        "python": Traits.of("can_exec"),
        "read_file": private,
        "search_history": private,
        "shell": Traits.of("reads_private", "brings_untrusted", "can_exec"),
    }


def test_their_arguments_are_checked(root: Path) -> None:
    with pytest.raises(BadCall, match="'first_line' of read_file should be a valid integer"):
        used(root, "read_file", path="a.txt", first_line="1")
    with pytest.raises(BadCall, match="at least 1 character"):
        used(root, "python", code="")
