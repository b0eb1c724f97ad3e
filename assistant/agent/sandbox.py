"""What keeps a tool in: bubblewrap where it works, else Landlock with a filter of system calls, else nothing.

Both let a tool write one empty folder, read what `reach.readable` names, and open no connection unless it asked for
one.
Both end with the process group of the call, run under the same limits and the same refused system calls.

What they do not do, said plainly:
- The kernel is shared: who finds a hole in it gets out. Time, load and temperature of the machine can be observed.
- A tool with a network can reach everything that this machine reaches, services on its own loopback included.
- How many processes, how much memory and disk a call uses in all is looked at 20 times a second; in between it may use
  more, a user who is not root no more than the kernel's own limit of processes.
- Names, sizes and times of files elsewhere can be asked for under Landlock (not under bubblewrap), content cannot.
- Under Landlock a tool has no /proc, cannot change modes, owners and times even of its own files, and where Landlock is
  older than version 6 cannot signal its own children.
- The top level of a tools file runs outside when the file is loaded, as any program that you start.
- Without either, what is left is a process of its own with a clean environment and limits: that is no wall, so tools
  that can write or execute are off.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from assistant.agent import landlock, reach, seccomp
from assistant.agent.limits import Limits
from assistant.errors import UsageError

LADDER = ("bubblewrap", "landlock")
"""The better first."""
_SHARED_MEMORY = 1024 * 1024
_PROBE_S = 20.0
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class Sandbox(Protocol):
    """One way of keeping a child process in."""

    name: str

    def command(
        self, argv: Sequence[str], *, writable: Path, readable: Sequence[Path], network: bool, limits: Limits
    ) -> list[str]:
        """`argv` in the sandbox. `writable` is its working directory; the environment is `environment(...)`."""
        ...


class Bubblewrap:
    """Namespaces of its own for files, processes, users, network and the rest."""

    name = "bubblewrap"

    def __init__(self, program: str) -> None:
        self._program = program

    def command(
        self, argv: Sequence[str], *, writable: Path, readable: Sequence[Path], network: bool, limits: Limits
    ) -> list[str]:
        """`argv` in the sandbox."""
        command = [self._program, "--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
        command += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL"]
        command += [] if network else ["--unshare-net"]
        command += ["--proc", "/proc", "--dev", "/dev", "--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm"]
        for path in _outermost_first(readable):
            command += ["--ro-bind-try", str(path), str(path)]
        command += ["--bind", str(writable), str(writable)]
        for place in ("/proc", "/dev", "/"):  # to root in here, settings of the kernel in /proc would be its own files
            command += ["--remount-ro", place]
        spec = _spec(limits, {"network": network})
        return [*command, "--chdir", str(writable), "--", *_confined(spec), *argv]


class Landlock:
    """Rules of the kernel about files, ports and signals; the filter of system calls does the rest."""

    name = "landlock"

    def command(
        self, argv: Sequence[str], *, writable: Path, readable: Sequence[Path], network: bool, limits: Limits
    ) -> list[str]:
        """`argv` in the sandbox."""
        walls = {"readable": [str(path) for path in readable], "writable": [str(writable), *_DEVICES]}
        return [*_confined(_spec(limits, {"network": network}, walls)), *argv]


class Bare:
    """No wall: a process group of its own and limits. For tools that neither write nor execute."""

    name = "none"

    def command(
        self,
        argv: Sequence[str],
        *,
        writable: Path,  # noqa: ARG002
        readable: Sequence[Path],  # noqa: ARG002
        network: bool,  # noqa: ARG002
        limits: Limits,
    ) -> list[str]:
        """`argv` under the limits."""
        return [*_confined(_spec(limits, None)), *argv]


def find_sandbox(prefer: str | None = None) -> Sandbox | None:
    """The best that works on this machine, or only `prefer` ("bubblewrap", "landlock", "none").

    Raises:
        UsageError: there is no back-end of that name.
    """
    if prefer not in (None, "none", *LADDER):
        raise UsageError(f"There is no sandbox called {prefer!r}; there are: {', '.join(LADDER)}, none.")
    wanted = LADDER if prefer is None else tuple(name for name in LADDER if name == prefer)
    return next((sandbox for name in wanted if (sandbox := _look(name)[0])), None)


def absent() -> dict[str, str]:
    """The back-ends that do not work here, the better first, each with a sentence why."""
    return {name: why for name in LADDER if (why := _look(name)[1])}


def environment(folder: Path, library: Path) -> dict[str, str]:
    """All that a tool sees of an environment: `folder` is its home, `library` where it imports `assistant` from."""
    path = dict.fromkeys([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    return {
        "PATH": os.pathsep.join(path),
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "TERM": "dumb",
        "PYTHONPATH": str(library),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "4",  # a library that starts a thread per core would use up what may be started
        "OPENBLAS_NUM_THREADS": "4",
    }


def _look(name: str) -> tuple[Sandbox | None, str]:
    """The back-end, or why there is none."""
    if sys.platform != "linux":
        return None, f"{name.capitalize()} is of Linux, and this is {platform.system()}."
    if why := seccomp.missing():
        return None, f"{name.capitalize()} is not used: {why}."
    if name == "bubblewrap":
        program = shutil.which("bwrap")
        if program is None:
            return None, "Bubblewrap is not installed (the command bwrap is not found)."
        return (Bubblewrap(program), "") if (why := _fails(program)) is None else (None, why)
    if (spoken := landlock.version()) < landlock.NEEDED:
        return None, f"Landlock of this kernel is version {spoken}, and {landlock.NEEDED} is needed (Linux 6.2)."
    return (Landlock(), "") if (why := _fails(None)) is None else (None, why)


@cache
def _fails(program: str | None) -> str | None:
    """Why a sandbox does not work here, found out by running one; `program` is bubblewrap's, None: Landlock."""
    sandbox: Sandbox = Landlock() if program is None else Bubblewrap(program)
    with tempfile.TemporaryDirectory(prefix="assistant-") as name:
        folder = Path(name).resolve()
        library = link_package(folder)
        (work := folder / "work").mkdir()
        allowed = reach.readable([library], [], network=False)
        argv = [sys.executable, "-S", "-c", "print('in')"]
        command = sandbox.command(argv, writable=work, readable=allowed, network=False, limits=Limits())
        try:
            done = subprocess.run(
                command, env=environment(work, library), cwd=work, capture_output=True, text=True, timeout=_PROBE_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{sandbox.name.capitalize()} does not work here: {error}."
    if done.returncode == 0 and done.stdout == "in\n":
        return None
    said = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    return f"{sandbox.name.capitalize()} does not work here: {said.rstrip('.')}."


def link_package(folder: Path) -> Path:
    """A new folder in `folder` from which nothing but `assistant` can be imported."""
    library = folder / "library"
    library.mkdir()
    (library / reach.PACKAGE.name).symlink_to(reach.PACKAGE)
    return library


def _spec(limits: Limits, filtered: dict[str, Any] | None, walls: dict[str, list[str]] | None = None) -> str:
    guard = filtered is None or walls is not None
    spec = {"limits": asdict(limits), "seccomp": filtered, "landlock": walls, "guard": guard, "parent": os.getpid()}
    return json.dumps(spec)


def _confined(spec: str) -> list[str]:
    return [sys.executable, "-P", "-S", "-m", "assistant.agent.confine", spec]


def _outermost_first(paths: Sequence[Path]) -> list[Path]:
    """Without what lies in another of them: one mount is enough."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept
