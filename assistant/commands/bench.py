"""`assistant bench NAME …`: the benchmarks of the source tree, each a module of `benchmarks` with flags of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from assistant.errors import UsageError

app = typer.Typer()

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Which one: agents, bfcl, decode, quality, recall, tiers, ...")
]


@app.command(
    epilog="Example: assistant bench decode --quick",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]},
)
def bench(context: typer.Context, name: Name) -> int:
    """Run a benchmark; what follows its name goes to it, also --help."""
    known = sorted(_known())
    if not known:
        raise UsageError("The benchmarks are part of the source tree: run this from a clone of the project.")
    if name not in known:
        raise UsageError(f"There is no benchmark {name!r}; there are: {', '.join(known)}.")
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *context.args], check=False).returncode


def _known() -> list[str]:
    """Modules of the benchmarks that can be run."""
    sys.path.insert(0, "")
    found = importlib.util.find_spec("benchmarks")
    places = found.submodule_search_locations if found is not None else None
    files = [file for place in places or () for file in Path(place).iterdir()]
    return [file.stem for file in files if (file / "__main__.py").exists() or _is_program(file)]


def _is_program(file: Path) -> bool:
    return file.suffix == ".py" and '__name__ == "__main__"' in file.read_text()
