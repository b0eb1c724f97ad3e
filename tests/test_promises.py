"""README and docs promise what tests show, and what the README claims or measured has something behind it.

One way: every promise of `tests/promises.py` stands where it says, and every test that it names is there. The other
way: every bold claim of the README's "What it does" is promised or leads to a test or a benchmark, and every row of its
measured tables names a command of ours that is there. Files are parsed, nothing of theirs is imported.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from assistant.cli import COMMANDS
from assistant.errors import Exit
from assistant.protocol import Usage
from tests.promises import PROMISES, Promise

ROOT = Path(__file__).parents[1]
README = "README.md"
PAGES = (README, *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")))
OURS = ("assistant", "make", "pytest", "python")
"""What a command that the README names may begin with."""

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_MEASURES = re.compile(r"(?:python -m benchmarks|assistant bench|make bench|pytest)\b")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#([^)\s]+))?\)")


@cache
def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def flat(text: str) -> str:
    """In one line."""
    return " ".join(text.split())


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests that a file defines; none when it is not there."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    functions = [one for one in ast.parse(read(path)).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


def section(page: str, title: str) -> str | None:
    """What stands below the heading that holds `title`, with the smaller headings; without blocks of code."""
    text = _FENCE.sub("", page)
    heading = re.search(rf"^(#+) [^\n]*\b{title}\b[^\n]*$", text, re.MULTILINE | re.IGNORECASE)
    if heading is None:
        return None
    rest = text[heading.end() :]
    end = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def items(text: str) -> Iterator[tuple[str, str]]:
    """The list items that begin in bold: the bold words, and the whole item in one line."""
    for item in re.split(r"^[-*] ", text, flags=re.MULTILINE)[1:]:
        if bold := re.match(r"\*\*(.+?)\*\*", item, re.DOTALL):
            yield flat(bold[1]), flat(item)


def is_shown(item: str) -> bool:
    """Whether a claim of the README is a promise, or leads to a test or a benchmark."""
    promised = any(one.document == README and flat(one.excerpt) in item for one in PROMISES)
    measured = any(runs(command) for command in named(item) if _MEASURES.match(command))
    return promised or measured or any(leads_to_proof(path) for path, _ in _LINK.findall(item))


def leads_to_proof(path: str) -> bool:
    """Whether a link of the README leads to a test or a benchmark, or to results of one."""
    return path.startswith(("tests/", "benchmarks/")) and (ROOT / path).exists()


def named(text: str) -> list[str]:
    """The commands of ours in a text, as code."""
    return [code for code in _CODE.findall(text) if code.split() and code.split()[0] in OURS and " " in code]


def runs(command: str) -> bool:
    """Whether a command's program, subcommand or target is there; what follows is its own affair."""
    match command.split():
        case ["python", "-m", "pytest", path, *_] | ["pytest", path, *_]:
            return (ROOT / path.partition("::")[0]).exists()
        case ["python", "-m", name, *_] | ["assistant", "bench", name, *_]:
            return is_benchmark(name.removeprefix("benchmarks."))
        case ["python", path, *_]:
            return (ROOT / path).is_file()
        case ["assistant", name, *_]:
            return name in COMMANDS
        case ["make", target, *_]:
            return re.search(rf"^{re.escape(target)}:", read("Makefile"), re.MULTILINE) is not None
    return False


def is_benchmark(name: str) -> bool:
    place = f"benchmarks/{name.replace('.', '/')}"
    alone = (ROOT / f"{place}.py").is_file() and '__name__ == "__main__"' in read(f"{place}.py")
    return alone or (ROOT / place / "__main__.py").is_file()


def tables(text: str) -> Iterator[list[list[str]]]:
    """The tables of a text, cell by cell, the head first."""
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        lines = [line for line in table.splitlines() if not re.fullmatch(r"[|\s:-]+", line)]
        yield [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def unbacked(text: str) -> Iterator[str]:
    """What the rows are about whose command is none of ours, or not there; "same" is that of the row before."""
    for head, *rows in tables(text):
        column = next((at for at, cell in enumerate(head) if "command" in cell.lower()), None)
        backed = False
        for row in rows if column is not None else []:
            backed = is_backed(row[column], backed)
            if not backed:
                yield row[0]


def is_backed(cell: str, before: bool) -> bool:
    """Whether a cell names commands, all of which are there, or links to proof; `before`: the row before is."""
    commands = named(cell)
    if not all(map(runs, commands)):
        return False
    links = any(leads_to_proof(path) for path, _ in _LINK.findall(cell))
    return bool(commands) or links or (before and "same" in cell.lower())


# --- promises have tests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.id)
def test_a_promise_stands_where_it_says(promise: Promise) -> None:
    assert flat(promise.excerpt) in flat(read(promise.document))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.id)
def test_the_tests_of_a_promise_are_there(promise: Promise) -> None:
    places = [test.split("::") for test in promise.tests]
    assert places
    assert [name for path, name in places if name not in names_in(f"tests/{path}")] == []


def test_every_promise_is_made_once() -> None:
    for said in ([one.id for one in PROMISES], [(one.document, one.excerpt) for one in PROMISES]):
        assert [one for one, count in Counter(said).items() if count > 1] == []


# --- what is claimed has something behind it -------------------------------------------------------------------------


def test_every_claim_of_the_readme_is_shown() -> None:
    found = list(items(section(read(README), "What it does") or ""))
    assert found
    assert [claim for claim, item in found if not is_shown(item)] == []


def test_every_measured_row_names_a_command_that_is_there() -> None:
    text = section(read(README), "Measured") or ""
    assert any("command" in cell.lower() for head, *_ in tables(text) for cell in head)
    assert list(unbacked(text)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_links_to_is_there(page: str) -> None:
    links = [(((ROOT / page).parent / path).resolve(), name) for path, name in _LINK.findall(read(page))]
    tests = [(str(path.relative_to(ROOT)), name) for path, name in links if path.name.startswith("test_")]
    assert [(path, name) for path, name in tests if not names_in(path) or (name and name not in names_in(path))] == []


def test_pages_on_exit_codes_name_every_code() -> None:
    found = {page: text for page in PAGES if (text := section(read(page), "Exit codes"))}
    assert found
    assert {page: code for page, text in found.items() for code in Exit if not re.search(rf"\b{code:d}\b", text)} == {}


def test_pages_on_the_usage_record_name_every_field() -> None:
    found = {page: text for page in PAGES if (text := section(read(page), "Usage record"))}
    assert found
    assert [
        (page, name) for page, text in found.items() for name in Usage.model_fields if f"`{name}`" not in text
    ] == []


# --- what is missing is told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "there"),
    [
        ("python -m benchmarks.decode --quick", True),
        ("python -m benchmarks.quality", True),
        ("python -m benchmarks.serve.hits --trace FILE", True),
        ("python -m benchmarks.guess", False),
        ("python -m benchmarks.report", False),
        ("assistant bench decode", True),
        ("assistant bench guess", False),
        ("assistant import ... --json", True),
        ("assistant guess", False),
        ("pytest tests/faults", True),
        ("pytest tests/test_guess.py::test_it", False),
        ("make bench-long", True),
        ("make tea", False),
    ],
)
def test_a_command_that_is_not_there_is_told(command: str, there: bool) -> None:
    assert runs(command) is there


def test_a_claim_without_anything_behind_it_is_told() -> None:
    here = "- **Fast.** It\n  is: `assistant chat`.\n- **Proved.** [See](tests/test_promises.py).\n- Plain.\n"
    found = list(items(section(f"## What it does\n\n{here}\n## Next\n\n- **No.**\n", "What it does") or ""))
    assert [claim for claim, _ in found] == ["Fast.", "Proved."]
    assert [claim for claim, item in found if not is_shown(item)] == ["Fast."]


def test_a_row_without_a_command_is_told() -> None:
    head = "| what | command | of others |\n|---|:--|---|\n"
    rows = {
        "| a | `python -m benchmarks.decode` | 1 |": True,
        "| b | same, `--quick` | 2 |": True,
        "| c | `python -m benchmarks.guess` | 3 |": False,
        "| d | same | 4 |": False,
        "| e | [kills](tests/faults/test_kills.py) | 5 |": True,
        "| f | by hand | `make test` |": False,
    }
    assert list(unbacked(head + "\n".join(rows))) == [row.split()[1] for row, good in rows.items() if not good]
