"""The tools of one program, in the order in which the model sees them: by name, so that its prompt stays the same."""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from assistant.agent.arguments import complaints
from assistant.agent.builtin import DEFAULT, builtin_tools
from assistant.agent.definition import Program, Tool, Traits
from assistant.agent.limits import Limits
from assistant.agent.loading import digest_of, line_of, load_module
from assistant.agent.reach import folder_of
from assistant.agent.signature import read_signature
from assistant.errors import AssistantError, UsageError
from assistant.places import Places, find_places, working_folder
from assistant.protocol import ToolSpec
from assistant.tools import DECLARED

CHOICE = "TOOLS"
"""The name of a list in a tools file that says which of its functions are tools; without it, all public ones."""


class BadCall(AssistantError):
    """A call that cannot be made as it is; the text is for the model, which may try again."""


class Toolbox:
    """Tools by name. Made by `load`, or of tools that are there already."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        """Raises UsageError when two have the same name."""
        self.tools = sorted(tools, key=lambda tool: tool.name)
        for one, other in zip(self.tools, self.tools[1:], strict=False):
            if one.name == other.name:
                raise UsageError(f"Two tools are called {one.name}: of {one.origin} and of {other.origin}.")
        self._by_name = {tool.name: tool for tool in self.tools}

    @classmethod
    def load(
        cls,
        file: Path | None,
        builtin: Sequence[str] = DEFAULT,
        *,
        root: Path | None = None,
        places: Places | None = None,
        more: Iterable[Tool] = (),
    ) -> Toolbox:
        """The tools of `file`, the built-in ones of these names for a program that works in `root`, and `more`.

        The file's top level runs here, in this process.

        Raises:
            UsageError: the file cannot be loaded, or holds a function that is no tool; the text names it and its line.
        """
        own = [] if file is None else file_tools(file)
        return cls([*own, *builtin_tools(builtin, root or working_folder(), places or find_places()), *more])

    @property
    def specs(self) -> list[ToolSpec]:
        """What the model is told."""
        return [tool.spec for tool in self.tools]

    def find(self, name: str) -> Tool:
        """The tool of that name.

        Raises:
            BadCall: there is none; the text names the nearest.
        """
        if name in self._by_name:
            return self._by_name[name]
        near = difflib.get_close_matches(name, self._by_name, n=3, cutoff=0.5)
        others = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(self._by_name) or 'none'}."
        raise BadCall(f"There is no tool called {name!r:.80}; {others}")

    def validated(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the tool gets them; what the call leaves out is left to the tool's own defaults.

        Raises:
            BadCall: there is no such tool, or the arguments are not its; one sentence for each problem.
        """
        tool = self.find(name)
        if not isinstance(arguments, Mapping):
            raise BadCall(f"The arguments of {name} must be an object with a value for each name.")
        try:
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise BadCall(f"The arguments of {name} hold something that JSON cannot say, such as NaN.") from None
        if tool.arguments is None:
            if said := complaints(tool.spec.parameters, dict(arguments), name):
                raise BadCall(" ".join(said))
            return dict(arguments)
        try:
            checked = tool.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise BadCall(" ".join(_problems(error, tool.spec))) from None
        return checked.model_dump(by_alias=True, exclude_unset=True)


def file_tools(file: Path) -> list[Tool]:
    """The tools of a file, as it is now.

    Raises:
        UsageError: as `Toolbox.load` says.
    """
    path, source = _read(file)
    places = _places_of(path, source)
    module = _module(path, source)
    found = [_tool(function, path, source, places) for function in _functions(module, path, places)]
    if not found:
        raise UsageError(f"The tools file {path.name} has no public function.")
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a function stands in its file, and its text."""

    line: int
    text: str


def _read(file: Path) -> tuple[Path, bytes]:
    try:
        path = file.expanduser().resolve(strict=True)
        return path, path.read_bytes()
    except OSError as error:
        raise UsageError(f"The tools file {file} cannot be read: {error.strerror}.") from None


def _places_of(path: Path, source: bytes) -> dict[str, _Place]:
    """The functions of the file's top level."""
    try:
        text = source.decode("utf-8-sig")
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"The tools file {path.name} is not Python{_at(error, path)}: {error}.") from None
    found: dict[str, _Place] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name in found and not node.name.startswith("_"):
                lines = f"lines {found[node.name].line} and {node.lineno}"
                raise UsageError(f"The tools file {path.name} has two functions called {node.name}, in {lines}.")
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            found[node.name] = _Place(node.lineno, "\n".join(text.splitlines()[first - 1 : node.end_lineno]))
    return found


def _module(path: Path, source: bytes) -> ModuleType:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what our own caller writes there is for programs to read
            return load_module(path, source)
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".rstrip(".: ")
        raise UsageError(f"The tools file {path.name} cannot be loaded{_at(error, path)}: {what}.") from None


def _at(error: BaseException, path: Path) -> str:
    line = line_of(error, path)
    return f" (line {line})" if line else ""


def _functions(module: ModuleType, path: Path, places: dict[str, _Place]) -> list[Callable[..., Any]]:
    """Those that are tools: what `TOOLS` lists, or every public function that the file itself defines."""
    chosen = getattr(module, CHOICE, None)
    if chosen is None:
        names = [name for name in places if not name.startswith("_") and inspect.isfunction(vars(module).get(name))]
        return [vars(module)[name] for name in names]
    if not isinstance(chosen, list | tuple) or not all(inspect.isfunction(one) for one in chosen):
        raise UsageError(f"{CHOICE} of the tools file {path.name} is not a list of functions.")
    for function in chosen:
        if function.__name__ not in places or vars(module).get(function.__name__) is not function:
            raise UsageError(f"{CHOICE} of {path.name} lists {function.__name__}, which the file does not define.")
    return list({function.__name__: function for function in chosen}.values())


def _tool(function: Callable[..., Any], path: Path, source: bytes, places: dict[str, _Place]) -> Tool:
    name, place = function.__name__, places[function.__name__]
    signature = read_signature(function, f"{path.name}, line {place.line}")
    declared = getattr(function, DECLARED, {"traits": {}, "timeout_s": None, "network": False})
    traits, sha = Traits(**declared["traits"]), digest_of(source)

    def start(arguments: Mapping[str, Any]) -> Program:
        limit = Limits().output
        asked = {"file": str(path), "sha256": sha, "function": name, "arguments": dict(arguments), "limit": limit}
        argv = (sys.executable, "-P", "-m", "assistant.agent.host")
        return Program(argv, json.dumps(asked).encode(), tuple(folder_of(path)), framed=True)

    return Tool(
        spec=signature.spec,
        traits=traits,
        origin=path.name,
        timeout_s=declared["timeout_s"],
        source=place.text,
        arguments=signature.arguments,
        start=start,
        network=declared["network"],
    )


def _problems(error: ValidationError, spec: ToolSpec) -> list[str]:
    """One sentence for each argument that is wrong."""
    found: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        found.setdefault(name, _problem(name, problem, spec))
    return list(found.values())


def _problem(name: str, problem: Any, spec: ToolSpec) -> str:
    if problem["type"] == "missing" and len(problem["loc"]) == 1:
        return f"The argument {name!r} of {spec.name} is missing."
    if problem["type"] == "extra_forbidden":
        known = ", ".join(spec.parameters["properties"]) or "it has none"
        return f"{spec.name} has no argument {name!r:.80}; its arguments: {known}."
    inner = [f"[{part}]" for part in problem["loc"][1:] if isinstance(part, int)]
    what = problem["msg"].removeprefix("Input ").removeprefix("Value error, ").rstrip(".")
    return f"The argument {name + ''.join(inner)!r} of {spec.name} {what}, and it is {_shown(problem['input'])}."


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
