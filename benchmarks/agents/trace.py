"""A recorded trace of agent runs: sizes of the model's steps, and the tools between them with their durations.

Steps of sub-agents (`sidechain`) are left out: to the program that called one, it is a tool called Task with the
duration that was recorded. Steps without a context (a request that failed) are left out too. Parallel calls count as
one that is named after the longest of them and takes as long.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assistant.errors import UsageError

CHARACTERS = 4
"""Characters of a token, where the trace does not say how many tokens a reply had."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request: `kept` tokens of its prompt were read before, `new` are not, `out` are written; then `tool` runs
    for `tool_s` seconds (None: the program ends)."""

    kept: int
    new: int
    out: int
    tool: str | None
    tool_s: float

    @property
    def size(self) -> int:
        """Tokens of the working set afterwards."""
        return self.kept + self.new + self.out


@dataclass(frozen=True, slots=True)
class Run:
    """One program: its steps in order; `task` is what it worked on (several runs can share one). `model_s`: seconds it
    spent with the model when it was recorded."""

    id: str
    task: str
    steps: tuple[Step, ...]
    model_s: float

    @property
    def tool_s(self) -> float:
        """Seconds of its tools."""
        return sum(step.tool_s for step in self.steps)


def load(path: Path, factor: float = 1.0) -> list[Run]:
    """The runs of a trace file, every number of tokens times `factor` (and at least 1).

    Raises:
        UsageError: the file cannot be read, or a line is not a run; it names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"The trace {path} cannot be read: {error.strerror}.") from error
    runs = [_run(path, number, line, factor) for number, line in enumerate(lines, start=1) if line.strip()]
    if not runs:
        raise UsageError(f"The trace {path} holds no runs.")
    return runs


def largest(runs: Sequence[Run]) -> int:
    """Tokens of the largest working set."""
    return max(step.size for run in runs for step in run.steps)


def paced(runs: Sequence[Run], pace: float) -> list[Run]:
    """The runs with tools that take `pace` times as long."""
    return [replace(run, steps=tuple(replace(step, tool_s=step.tool_s * pace) for step in run.steps)) for run in runs]


def folds(runs: Sequence[Run], seed: int = 0) -> tuple[list[Run], list[Run]]:
    """Two halves with no task in common."""
    tasks = sorted({run.task for run in runs})
    random.Random(seed).shuffle(tasks)
    first = set(tasks[: len(tasks) // 2])
    return [run for run in runs if run.task in first], [run for run in runs if run.task not in first]


def _run(path: Path, number: int, line: str, factor: float) -> Run:
    try:
        row: dict[str, Any] = json.loads(line)
        recorded = [_numbers(one) for one in row["steps"] if not one["sidechain"] and one["ctx_tokens"] > 0]
        steps = tuple(_steps(recorded, factor))
        return Run(row["id"], row["task"], steps, max(0.0, row["wall_s"] - sum(step.tool_s for step in steps)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UsageError(f"Line {number} of the trace {path} is not a run ({what}).") from error


def _numbers(row: dict[str, Any]) -> tuple[int, int, str, float]:
    """(tokens of the prompt, of the reply, the tool that took longest, its seconds)."""
    written = max(int(row["out_tokens_logged"]), -(-int(row["out_chars"]) // CHARACTERS), 1)
    calls = [(float(call["dur_s"]), str(call["name"])) for call in row["tools"]]
    if any(not 0 <= seconds < float("inf") for seconds, _ in calls):
        raise ValueError("a duration is not one")
    seconds, tool = max(calls, default=(0.0, ""))
    return int(row["ctx_tokens"]), written, tool, seconds


def _steps(recorded: list[tuple[int, int, str, float]], factor: float) -> list[Step]:
    """Steps whose sizes follow from each other: what is not kept or written before is new."""
    if not recorded:
        raise ValueError("it has no steps")
    steps, before, context = list[Step](), 0, 0
    for at, (tokens, written, tool, seconds) in enumerate(recorded):
        last, kept = at + 1 == len(recorded), before if tokens > context else 0
        prompt = max(kept + 1, round(tokens * factor))
        out = max(1, round(written * factor))
        if not last and (following := round(recorded[at + 1][0] * factor)) > prompt:
            out = max(1, min(out, following - prompt - 1))
        steps.append(Step(kept, prompt - kept, out, None if last else tool or "none", 0.0 if last else seconds))
        before, context = prompt + out, tokens
    return steps
