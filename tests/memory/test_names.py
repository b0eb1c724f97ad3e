"""Names from outside as paths: nothing leaves its folder, and nobody but `safe_join` joins such a name."""

from __future__ import annotations

import ast
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.names import UnsafeName, safe_join
from tests.hostile import HOSTILE, random_name

ROOT = Path(__file__).parents[2]
CASES = 100_000
OURS = {
    "assistant/agent/builtin.py": ["root / path"],  # resolved and compared there: links inside the folder are wanted
    "assistant/agent/sandbox.py": ["library / reach.PACKAGE.name"],
    "assistant/commands/agent.py": ["path.with_name(f'.{path.name}.{os.getpid()}')"],
    "assistant/daemon/token.py": ["path.with_name(f'{path.name}.{secrets.token_hex(4)}')"],
    "assistant/entry.py": ["folder / name"],  # of a list of ours
    "assistant/pull.py": [
        "places.models / '.staging' / f'{entry.folder(places).name}.{entry.origin.digest}'",
        "folder / f'{entry.folder(places).name}.lock'",
    ],
    "assistant/catalog.py": ["base / Path(key).expanduser()"],  # is a path
    "assistant/source.py": ["(base or Path.cwd()) / Path(text.removeprefix('file:')).expanduser()"],  # is a path
    "assistant/worker/episodes.py": ["float(count) / size"],
    "assistant/worker/tiers.py": ["folder / name", "folder / name"],  # of a list of ours
    "memory/database.py": ["path.with_name(name)"],
    "memory/encoder.py": ["(states * mask[..., None]).sum(1) / lengths[:, None]"],
    "memory/folder.py": ["Path(folder) / name"],  # what the folder holds
    "memory/forgetting.py": ["folder.conversation(kept.heir) / source.name"],
    "memory/layers/profile.py": ["folder / f'{key}.json'"],
    "memory/minilm.py": ["folder / _NEEDED[-1]", "folder / name"],
    "memory/names.py": ["place /= part"],
    "memory/publish.py": ["path.with_name(f'{path.name}.{secrets.token_hex(4)}{TEMPORARY}')"],
    "memory/sweep.py": ["quarantine / path.name"],
    "memory/tier/stored.py": ["folder / f'{path.stem}-{index}.row'", "folder / path.name"],
}
"""Every path that is joined of what is not a constant, by file; what is not listed here goes through `safe_join`."""


@pytest.fixture
def around() -> Iterator[Path]:
    """A folder with a short path: resolving one costs a look at every part of it."""
    with tempfile.TemporaryDirectory(prefix="a", dir="/tmp") as folder:
        yield Path(folder).resolve()


@pytest.fixture
def root(around: Path) -> Path:
    """A folder with a file, a folder, and links that lead out of it."""
    folder = around / "root"
    (folder / "inner").mkdir(parents=True)
    (folder / "plain").write_text("x")
    (around / "secret").write_text("secret")
    (folder / "link").symlink_to(around / "secret")
    (folder / "up").symlink_to(around)
    (folder / "around").symlink_to(folder / "inner")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(around / "nowhere")
    (folder / "inner" / "up").symlink_to("../..")
    return folder


def joined(root: Path, name: str) -> Path | None:
    """The path of a name, None when it is refused; never anything outside."""
    try:
        path = safe_join(root, name)
    except OSError:
        return None
    assert os.path.realpath(path) == str(path), name  # nothing on the way is a link
    assert str(path).startswith(f"{root}/"), name
    return path


@pytest.mark.parametrize("name", ["plain", "new", "inner/new", "a b", "..x", "x..", "...", "ümläut ☕", "-rf", "C:"])
def test_plain_names_stay_where_they_belong(root: Path, name: str) -> None:
    assert safe_join(root, name) == root / name


@pytest.mark.parametrize(
    "name", ["link", "up", "around", "loop", "dangling", "up/secret", "inner/up/secret", "around/x"]
)
def test_links_are_refused(root: Path, name: str) -> None:
    with pytest.raises(UnsafeName, match="a link stands"):
        safe_join(root, name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "/etc/passwd", "a/../b", "a//b", "a/", "a\0b", "..\\x", "x" * 256]
)
def test_what_no_name_is(root: Path, name: str) -> None:
    with pytest.raises(UnsafeName):
        safe_join(root, name)


def test_a_root_that_is_a_link_itself_is_fine(root: Path, around: Path) -> None:
    (around / "alias").symlink_to(root)
    assert safe_join(around / "alias", "plain").read_text() == "x"


def test_hostile_names_never_escape(root: Path) -> None:
    assert len(set(HOSTILE)) >= 500
    kept = [name for name in HOSTILE if joined(root, name) is not None]
    assert len(kept) < len(HOSTILE)


def test_random_names_never_escape(root: Path) -> None:
    draw = random.Random(7)
    assert sum(joined(root, random_name(draw)) is None for _ in range(CASES)) > CASES // 10


def test_a_link_that_comes_in_between_is_not_followed_with_o_nofollow(root: Path, around: Path) -> None:
    path = safe_join(root, "late")
    path.symlink_to(around / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with pytest.raises(UnsafeName):
        safe_join(root, "late")


def joins(file: Path) -> Iterator[str]:
    """Expressions of a module that join a path of something that is not a constant."""
    for node in ast.walk(ast.parse(file.read_text())):
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not _is_known(node.right)
        grows = isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div) and not _is_known(node.value)
        if divides or grows or (isinstance(node, ast.Call) and _joins(node)):
            yield ast.unparse(node)


def _joins(call: ast.Call) -> bool:
    constant = all(isinstance(argument, ast.Constant) for argument in call.args)
    return ast.unparse(call.func).endswith(("joinpath", "path.join", "with_name")) and not constant


def _is_known(right: ast.expr) -> bool:
    """A constant, or the value of a counting function: no path ends with one."""
    if isinstance(right, ast.Call):
        return ast.unparse(right.func) in ("max", "len", "sum")
    return isinstance(right, ast.Constant) or (isinstance(right, ast.Name) and right.id.isupper())


def test_nobody_else_joins_names() -> None:
    modules = [file for part in ("assistant", "memory") for file in sorted((ROOT / part).rglob("*.py"))]
    about_paths = [file for file in modules if "import Path" in file.read_text()]
    found = {str(file.relative_to(ROOT)): sorted(joins(file)) for file in about_paths}
    assert {name: said for name, said in found.items() if said} == {name: sorted(said) for name, said in OURS.items()}
