"""Installing for real: sdist and wheel of the tracked files, installed outside the checkout, used, and removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.cli import COMMANDS
from assistant.places import private
from tests.assistant.test_migration import WHEN, insert, old_history

CHECKOUT = Path(__file__).parents[1]
NAME = "on-device-assistant"
PACKAGES = ("assistant/", "memory/", "tui/")
CHAT = """
from importlib.metadata import distribution
[chat] = distribution("on-device-assistant").entry_points.select(group="assistant.commands")
import assistant, memory, tui
print(chat.name, chat.load().__module__, assistant.__file__, memory.__file__, tui.__file__)
"""


def output(command: Sequence[str | Path], folder: Path, code: int = 0, **environment: str) -> str:
    """What a command writes in `folder`, with no setting of this process but `environment`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ASSISTANT_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def tracked() -> list[str]:
    """The files of the project, as a clone has them."""
    names = output(["git", "ls-files", "-z"], CHECKOUT).split("\0")
    return [name for name in names if name and (CHECKOUT / name).exists()]


def packaged() -> set[str]:
    """What an installation holds of them, by its place there."""
    return {name for name in tracked() if name.startswith(PACKAGES)} | {"assistant/models.toml"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of a clean copy."""
    copy = tmp_path_factory.mktemp("clone")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, copy / name)
    return build("sdist", copy)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the unpacked sdist: that is what pip builds where it finds no wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return build("wheel", source)


def build(kind: str, source: Path) -> Path:
    """What the build backend makes of `source`."""
    output([sys.executable, "-P", "-m", "hatchling", "build", "-t", kind, "-d", source / "dist"], source)
    [made] = (source / "dist").iterdir()
    return made


class Installed:
    """The program in a virtual environment of its own, which borrows the dependencies of this one."""

    def __init__(self, wheel: Path, folder: Path, home: Path) -> None:
        self.folder, self.home = folder / "venv", home
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        output([sys.executable, "-m", "venv", "--without-pip", self.folder], folder)
        self.site = Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        self.pip("install", "--no-deps", "--no-index", "--no-compile", str(wheel))
        self.borrowed = self.site / "borrowed.pth"
        self.borrowed.write_text("\n".join(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))

    def pip(self, *args: str) -> None:
        own = ["--python", str(self.folder), "--disable-pip-version-check"]
        output([sys.executable, "-m", "pip", *own, *args], self.elsewhere, PYTHONPATH="")

    def python(self, code: str) -> str:
        return output([self.folder / "bin" / "python", "-c", code], self.elsewhere, PYTHONPATH="")

    def run(self, *args: str, code: int = 0) -> str:
        """A command of the program, in a folder that has nothing to do with it; no worker is started ahead."""
        places = {"ASSISTANT_HOME": str(self.home), "ASSISTANT_KEEP_ALIVE": "0", "PYTHONPATH": ""}
        return output([self.folder / "bin" / "assistant", *args], self.elsewhere, code, **places)

    def findings(self) -> dict[str, dict[str, Any]]:
        """What the doctor finds where no model was pulled yet."""
        report = json.loads(self.run("doctor", "--json", code=1))
        return {finding["check"]: finding for finding in report["findings"]}

    def uninstall(self) -> None:
        self.borrowed.unlink()
        self.pip("uninstall", "--yes", NAME)


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Iterator[Installed]:
    """The wheel, installed, with an ASSISTANT_HOME that does not exist yet."""
    short = Path(tempfile.mkdtemp(prefix="a", dir="/tmp"))  # sockets have short names
    yield Installed(wheel, tmp_path, short / "home")
    shutil.rmtree(short)


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    extra = {name.partition("/")[0].rpartition(".")[2] for name in names if name not in packaged()}
    assert packaged() <= set(names)
    assert extra == {"dist-info", "data"}


def test_the_wheel_brings_licence_and_man_page(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith("dist-info/licenses/LICENSE")]
    assert [name for name in names if name.endswith(".data/data/share/man/man1/assistant.1")]


def test_the_sdist_holds_every_tracked_file(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked()) <= names


def test_what_is_installed_works_outside_the_checkout(installed: Installed) -> None:
    name, module, *files = installed.python(CHAT).split()
    assert (name, module) == ("chat", "tui.app")
    assert [Path(file).parents[1] for file in files] == [installed.site] * 3
    shown = installed.run("--help")
    assert [command for command in COMMANDS if f" {command} " not in shown] == []
    catalogue = tomllib.loads((CHECKOUT / "models.toml").read_text())
    listed = json.loads(installed.run("models", "list", "--json"))
    assert {row["id"] for row in listed} == set(catalogue)
    found = installed.findings()
    assert [check for check, finding in found.items() if not finding["ok"]] == ["model"]
    assert "assistant models pull" in found["model"]["says"]


def test_data_of_an_older_version_is_upgraded_and_outlives_the_program(installed: Installed) -> None:
    history = older(installed.home / "data")
    try:
        [told] = json.loads(installed.run("conversations", "list", "--json"))
    finally:
        installed.run("daemon", "stop")
    assert (told["name"], told["title"], told["turns"]) == ("trip", "On a trip", 1)
    assert installed.findings()["data folder"]["says"] == f"{history.parent}, private"
    kept = contents(installed.home)
    installed.uninstall()
    assert contents(installed.home) == kept
    assert b"to Lisbon" in kept[history.relative_to(installed.home)]
    assert not (installed.folder / "bin" / "assistant").exists()
    assert not [folder for folder in PACKAGES if (installed.site / folder).exists()]


def older(data: Path) -> Path:
    """A history of the first version, with one conversation."""
    history = private(data) / "history.db"
    db = old_history(history)
    db.execute("INSERT INTO conversations VALUES ('id', 'trip', 'On a trip', ?, ?)", [WHEN, WHEN])
    insert(db, "id", 0, "user", "We fly to Lisbon.")
    db.conn.commit()
    db.close()
    return history


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below `folder`."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
