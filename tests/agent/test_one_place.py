"""One module gives leave to make a call and one makes it: no way leads around either."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import assistant

PACKAGE = Path(assistant.__file__).parent


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the program, by its path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_children_for_tools_are_started_in_one_place() -> None:
    importing = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "assistant.agent.running"
    }
    assert importing == {"agent/execution.py"}


def test_tools_are_called_in_one_place() -> None:
    """A tool is run through its fields `run` and `start`, which nobody else touches."""
    calling = {
        name
        for name, tree in modules()
        if name.startswith(("agent/", "commands/tools", "commands/agent"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("tool", "found", "chosen")
        and node.func.attr in ("run", "start")
    }
    assert calling == {"agent/execution.py"}


def test_leave_is_given_in_no_other_place_than_the_approvals() -> None:
    making = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Permit"
    }
    assert making <= {"agent/approval.py"}


def test_a_tool_is_never_given_code_to_run_in_this_process() -> None:
    """Only the import of a tools file runs its code here, and that goes the way of every import."""
    evaluating = {
        name
        for name, tree in modules()
        if name.startswith("agent/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("eval", "exec", "compile")
    }
    assert evaluating == set()
