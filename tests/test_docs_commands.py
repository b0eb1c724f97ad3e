"""Commands that README and docs show are ones that the program takes; flags and pages know each other.

A line of a code block is read as a shell would read it, and given to the parser of its command; nothing is run. In
running text, where `assistant why` stands without what it needs, the command and its flags must exist.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException

from assistant.cli import _all, _command
from assistant.errors import UsageError
from tui import flags

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")))
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FOREIGN = {"--enable-auto-tool-choice", "--jinja"}
"""Flags that stand alone in running text and are other programs': vLLM's, llama.cpp's."""

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_OURS = re.compile(r"(\S*/)?(assistant|make|python)( |$)(?!\S+,)")
"""The beginning of a line that is a command; in a drawing a comma follows the first word."""
_COMMENT = re.compile(r"\s+#\s.*")
_HEADING = re.compile(r"^##+ `(assistant [^`]+)`$", re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def lines(page: str) -> Iterator[str]:
    """Lines of the code blocks of a page; those that end with a backslash go on."""
    for block in _FENCE.findall(read(page)):
        yield from block.replace("\\\n", " ").splitlines()


def spans(page: str) -> Iterator[str]:
    """What stands in backticks in the running text of a page."""
    for span in _SPAN.findall(_FENCE.sub("", read(page))):
        yield " ".join(span.split())


def typed(line: str) -> Iterator[list[str]]:
    """The commands of ours in a line, word by word, without comment and redirections."""
    if not _OURS.match(line) and "| assistant " not in line:
        return
    lexer = shlex.shlex(_COMMENT.sub("", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if word and set(word) <= set("|&;"):
            yield words
            words, redirected = [], False
        elif word and set(word) <= set("<>&"):
            redirected = True
        elif not redirected:
            words.append(word)


def problem(words: list[str]) -> str | None:
    """Why a command would be refused before it does anything; None also for programs that are not ours."""
    name = words[0].rpartition("/")[2] if words else ""
    if name == "assistant":
        return command_problem(words[1:])
    if name == "make":
        return next((f"no target {word}" for word in words[1:] if "=" not in word and word not in TARGETS), None)
    if name == "python" and len(words) > 2 and words[2].startswith("benchmarks."):
        return benchmark_problem(words[2].removeprefix("benchmarks."), words[3:])
    return None


def command_problem(words: list[str]) -> str | None:
    """What the parser of a command says of its words."""
    path, command, rest = walk(words)
    if {"--help", "--version"} & set(rest):
        return unknown(path, rest, options(path, command))
    if getattr(command, "commands", None):
        return f"{path} has no command {' '.join(rest[:1])}"
    if path == "assistant bench":
        return benchmark_problem(rest[0], rest[1:]) if rest else "which benchmark?"
    try:
        if path == "assistant chat" and "--plain" not in rest:
            flags.parse(rest)
        else:
            command.make_context(path, rest)
    except (TyperException, UsageError) as error:
        return str(error) or repr(error)
    return None


def benchmark_problem(name: str, words: list[str]) -> str | None:
    """A benchmark that is none, or a flag that it has not; a name in capitals stands for any."""
    if name.isupper():
        return None
    known = benchmark_flags(name)
    return f"there is no benchmark {name}" if known is None else unknown(name, words, known)


def unknown(path: str, words: list[str], known: Iterable[str]) -> str | None:
    """The first flag among the words that is not known."""
    return next((f"{path} has no {word}" for word in words if word.startswith("-") and word not in known), None)


def walk(words: list[str]) -> tuple[str, Any, list[str]]:
    """The command that the first words name, and the words after it."""
    path, command, rest = "assistant", tree(), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        word = rest.pop(0)
        path, command = f"{path} {word}", command.commands[word]
    return path, command, rest


@cache
def tree() -> Any:
    """All commands."""
    return _command(_all())


def leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that is no group."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for word, one in inner.items():
        yield from leaves(f"{path} {word}", one)


def options(path: str, command: Any) -> set[str]:
    """The flags that a command takes, hidden ones left out."""
    own = {name for one in command.params if not one.hidden for name in one.opts if name.startswith("-")}
    app = {name for action in flags._parser()._actions for name in action.option_strings}
    return own | {"--help"} | (app - {"-h"} if path == "assistant chat" else set())


@cache
def benchmark_flags(name: str) -> frozenset[str] | None:
    """The flags of a benchmark that can be run, its own and those of a parser that it imports; None when it is none."""
    place = ROOT / "benchmarks" / name.replace(".", "/")
    file = next((one for one in (place.with_suffix(".py"), place / "__main__.py") if one.is_file()), None)
    if file is None or '__name__ == "__main__"' not in (source := file.read_text(encoding="utf-8")):
        return None
    module = ast.parse(source)
    return frozenset({*added(module), "--help"} | {flag for node in named(module, module) for flag in added(node)})


def named(scope: ast.AST, module: ast.Module) -> Iterator[ast.AST]:
    """Functions of other benchmarks that a part of a module names, and those that they name."""
    names = {node.id for node in ast.walk(scope) if isinstance(node, ast.Name)}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks."):
            file = (ROOT / str(node.module).replace(".", "/")).with_suffix(".py")
            theirs = ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")
            wanted = names & {one.name for one in node.names}
            for one in theirs.body:
                if isinstance(one, ast.FunctionDef) and one.name in wanted:
                    yield one
                    yield from named(one, theirs)


def added(scope: ast.AST) -> Iterator[str]:
    """The flags that calls of `add_argument` name."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            names = [one.value for one in node.args if isinstance(one, ast.Constant)]
            yield from (name for name in names if isinstance(name, str) and name.startswith("-"))


def mentioned(text: str) -> str | None:
    """What is wrong with a command in running text: it needs to exist, with the flags that stand after it."""
    words = text.replace("...", " ").split()
    if not words or words[0].rpartition("/")[2] != "assistant":
        return problem(words)
    path, command, rest = walk(words[1:])
    inner = getattr(command, "commands", {})
    wrong = [one for word in rest[:1] for one in word.split("|") if inner and re.match("[a-z]", one)]
    if wrong := [one for one in wrong if one not in inner]:
        return f"{path} has no command {wrong[0]}"
    if path == "assistant bench" and rest:
        return benchmark_problem(rest[0], rest[1:])
    return unknown(path, _FLAG.findall(" ".join(rest)), options(path, command))


@cache
def every_flag() -> set[str]:
    """The flags of all commands and benchmarks."""
    found = options("assistant", tree()).union(*(options(path, one) for path, one in leaves("assistant", tree())))
    files = (ROOT / "benchmarks").rglob("*.py")
    return found.union(*(added(ast.parse(file.read_text(encoding="utf-8"))) for file in files))


SHOWN = [(page, line) for page in PAGES for line in lines(page) if any(typed(line))]


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_command_in_a_code_block_parses(page: str, line: str) -> None:
    assert [said for words in typed(line) if (said := problem(words))] == [], page


@pytest.mark.parametrize("page", PAGES)
def test_what_a_comment_says_of_a_command_is_so(page: str) -> None:
    for line in lines(page):
        if line.startswith("assistant ") and (comment := _COMMENT.search(line)):
            path, command, _ = walk(_COMMENT.sub("", line).split()[1:])
            assert set(_FLAG.findall(comment[0])) <= options(path, command), line


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_flags_in_running_text_exist(page: str) -> None:
    assert [said for span in spans(page) if (said := mentioned(span))] == []
    ours = [span for span in spans(page) if span.startswith("--") or span.partition(" ")[0] in tree().commands]
    assert {flag for span in ours for flag in _FLAG.findall(span)} - FOREIGN <= every_flag()


def test_the_page_of_commands_has_the_flags_of_each() -> None:
    _, *parts = _HEADING.split(read("docs/commands.md"))
    shown = dict(zip(parts[::2], parts[1::2], strict=True))
    for path, command in leaves("assistant", tree()):
        first = re.findall(r"^\| `(-[^`]*)` \|", shown[path], re.MULTILINE)
        named = {word.strip(",") for cell in first for word in cell.split() if word.startswith("-")}
        assert named == options(path, command) - {"--help"}, path


def test_the_readme_shows_how_to_begin() -> None:
    begun = [words[:2] for page, line in SHOWN if page == "README.md" for words in typed(line)]
    for first in (["make", "chat"], ["make", "test"], ["assistant", "chat"], ["assistant", "ask"]):
        assert first in begun


@pytest.mark.parametrize(
    "line",
    [
        "assistant aks -c trip 'Where?'",
        "assistant ask --no-such-flag 'Where?'",
        "assistant ask one two",
        "assistant why",
        "assistant models",
        "assistant models pull",
        "assistant search --limit many words",
        "assistant chat --no-such-flag",
        "assistant bench no-such-benchmark",
        "assistant bench decode --no-such-flag",
        "git diff | assistant ask --no-such-flag > there   # a comment",
        ".venv/bin/python -m benchmarks.no_such --quick",
        "python -m benchmarks.decode --no-such-flag",
        "make no-such-target",
    ],
)
def test_what_would_be_refused_is_told(line: str) -> None:
    assert [said for words in typed(line) if (said := problem(words))]


@pytest.mark.parametrize(
    "line",
    [
        'assistant ask -c trip "What is this?" > there 2>&1   # --no-such-flag',
        "git diff | assistant ask 'Explain.' && assistant ps",
        "assistant chat --web --port 8001",
        "assistant chat --plain",
        "assistant export trip --format md --help",
        "assistant --version",
        "assistant bench decode --quick",
        "python -m benchmarks.serve.hits --trace FILE",
        "make PYTHON=/path/to/python3.11 chat",
        "assistant chat, ask, agent      are front ends",
        "ls --no-such-flag",
    ],
)
def test_what_would_be_taken_is_not(line: str) -> None:
    assert not [said for words in typed(line) if (said := problem(words))]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("assistant why", False),
        ("assistant conversations rm|rename", False),
        ("assistant import ... --budget 900MiB --json", False),
        ("assistant bench agents --trace FILE", False),
        ("assistant bench NAME [...]", False),
        (".venv/bin/assistant", False),
        ("assistant conversations remove", True),
        ("assistant conversations rm|remove", True),
        ("assistant why --sittings", True),
        ("assistant bench agents --dialogues FILE", True),
        ("python -m benchmarks.nothing", True),
        ("make nothing", True),
    ],
)
def test_what_does_not_exist_in_running_text_is_told(text: str, wrong: bool) -> None:
    assert (mentioned(text) is not None) == wrong
