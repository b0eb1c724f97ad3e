"""Files and names that the pages for engineers, the decisions and the README's tree speak of are there.

The notation: what looks like a path in backticks is a file or folder of ours. A name in backticks right after a path is
defined in that file. So is one with a capital (`Class`, `Class.method`, `CONSTANT`), wherever it stands: in the file
named last before it in the same paragraph, list item or table row. `memory.store` is a module, `memory.store.Memory` a
name in it. Files are parsed, nothing is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/architecture.md", "docs/memory.md")
OTHERS = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "decisions").glob("*.md")))
FOLDERS = ("assistant", "benchmarks", "docs", "examples", "memory", "tests", "tui")

_OURS = "|".join(FOLDERS)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) ?)")
_TOKEN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(rf"(?:{_OURS})/[\w.*/-]*|\w[\w./*-]*\.py|[A-Z]+\.md|Makefile|(?:models|pyproject)\.toml")
_MODULE = re.compile(rf"(?:{_OURS})(?:\.(?!toml$)[A-Za-z_]\w*)+")
_CAPITAL = re.compile(r"[A-Z]\w*(?:\.\w+)*")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_BETWEEN = re.compile(r"[\s,]*(?:and\s)?\s*")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_TREE = re.compile(r"^##+ [^\n]*\btree\b.*?^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LISTED = re.compile(r"[\w.*/-]*\w/|[\w*/-]+\.(?:py|toml|tcss|md)")


def wrong(text: str) -> Iterator[str]:
    """What a page says that is not so: paths that are not there, names that their file does not define."""
    for path, name in references(text):
        if name is None and not there(ROOT, path):
            yield f"there is no {path}"
        elif name is not None and name not in defined(path):
            yield f"{path} has no {name}" if path else f"no path before {name}"


def references(text: str) -> Iterator[tuple[str, str | None]]:
    """Paths, and names with the path that they belong to ("" where none was named)."""
    for block in _BLOCK.split(_FENCE.sub("", text)):
        path, end = "", -1
        for token in _TOKEN.finditer(block):
            said = token[1]
            follows = end >= 0 and _BETWEEN.fullmatch(block[end : token.start()]) is not None
            if _PATH.fullmatch(said):
                path, end = said, token.end()
                yield path, None
            elif _MODULE.fullmatch(said):
                yield module(said)
            elif _CAPITAL.fullmatch(said) or (follows and _NAME.fullmatch(said)):
                end = token.end()
                yield path, said
            else:
                end = -1


def module(said: str) -> tuple[str, str | None]:
    """The path of `memory.tier.ram` or `memory.store.Memory`, and what is named in it."""
    parts = said.split(".")
    for count in range(len(parts), 0, -1):
        path, rest = "/".join(parts[:count]), ".".join(parts[count:]) or None
        if (ROOT / path).is_dir():
            return (f"{path}/__init__.py", rest) if rest else (path, None)
        if (ROOT / f"{path}.py").is_file():
            return f"{path}.py", rest
    return said, None


def there(folder: Path, path: str) -> bool:
    """Whether a path, which may be a pattern, names something in `folder`."""
    return any(folder.glob(path.rstrip("/")))


@cache
def defined(path: str) -> frozenset[str]:
    """Names that a file of Python defines: functions, classes and what is assigned, with those inside of them."""
    file = ROOT / path
    if not path.endswith(".py") or not file.is_file():
        return frozenset()
    return frozenset(inside(ast.parse(file.read_text(encoding="utf-8")), ""))


def inside(scope: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> Iterator[str]:
    """The names of a scope and, after a dot, of the scopes in it."""
    for one in scope.body:
        if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + one.name
            yield from inside(one, f"{prefix}{one.name}.")
        elif isinstance(one, ast.Assign | ast.AnnAssign):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def unlisted(tree: str) -> Iterator[str]:
    """Files and folders of a drawn tree that are not there: each lies in the root or in a folder named before."""
    places = [ROOT]
    for word in (part.strip(",;:()") for part in tree.split()):
        if not _LISTED.fullmatch(word):
            continue
        place = next((place for place in reversed(places) if there(place, word)), None)
        if place is None:
            yield f"there is no {word}"
        elif word.endswith("/"):
            places = [ROOT, ROOT / word] if place == ROOT else [*places, place / word]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_and_name_of_a_page_is_there(page: str) -> None:
    assert not list(wrong((ROOT / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    text, folder = (ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent
    assert not [link for link in _LINK.findall(text) if not (folder / link).exists()]


@pytest.mark.parametrize("page", OTHERS)
def test_every_path_of_the_readme_and_of_a_decision_is_there(page: str) -> None:
    found = references((ROOT / page).read_text(encoding="utf-8"))
    assert not [path for path, name in found if name is None and not there(ROOT, path)]


def test_everything_in_the_tree_of_the_readme_is_there() -> None:
    tree = _TREE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert tree is not None
    assert not list(unlisted(tree[1]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`memory/store.py` `Memory.resume`, `make_policy` and `Memory.step`", []),
        ("`memory/store.py` and then, of the same file, `Memory.seal` and `RECENT`", []),
        ("`assistant/worker/lines.py` `Lines.serve`; the setting `mode`; `history.db`", []),
        ("`memory/tier/*.py`, `memory.store.Memory`, `memory.tier`, the file `assistant.toml`", []),
        ("`memory/shop.py`", ["there is no memory/shop.py"]),
        ("`memroy/store.py`", ["there is no memroy/store.py"]),
        ("`memory.shop`", ["memory/__init__.py has no shop"]),
        ("`memory/store.py` `Memory.remember`", ["memory/store.py has no Memory.remember"]),
        ("`memory/store.py` `remember`", ["memory/store.py has no remember"]),
        ("`memory/store.py` `Memory.step`, `Memory.stop`", ["memory/store.py has no Memory.stop"]),
        ("`memory/store.py`, from which `Memoir` comes", ["memory/store.py has no Memoir"]),
        ("- `memory/store.py`\n- of it `Memory.step`", ["no path before Memory.step"]),
        ("`memory/tier/` `RamTier`", ["memory/tier/ has no RamTier"]),
    ],
)
def test_what_is_not_there_is_told(text: str, said: list[str]) -> None:
    assert list(wrong(text)) == said


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ("memory/  the library\n  store.py  tier/  gpu.py (the pool), ram.py\ntests/  docs/", []),
        ("memory/\n  shop.py   tier/ ", ["there is no shop.py"]),
        ("memory/\n  app.py\nassistant/\n  daemon/   app.py", ["there is no app.py"]),
        ("memory/\n  episode*.py\n  chapter*.py", ["there is no chapter*.py"]),
    ],
)
def test_what_is_not_in_the_tree_is_told(tree: str, said: list[str]) -> None:
    assert list(unlisted(tree)) == said
