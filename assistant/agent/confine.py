"""Runs in the child, `python -m assistant.agent.confine SPEC COMMAND...`: limits itself, then becomes COMMAND.

SPEC is JSON: `{"limits": {...}, "seccomp": {...} or null, "landlock": {...} or null, "guard": bool}`. With `guard` a
process stays behind, outside of what the tool can reach, and ends all of it when whoever started us is gone
(bubblewrap does that by itself). Imports nothing but Python.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

from assistant.agent import landlock, seccomp

_DEATH_SIGNAL, _DROP_BOUND, _ADOPT, _AMBIENT, _CLEAR_AMBIENT = 1, 24, 36, 47, 4
_CAPABILITIES = 0x20080522


def main() -> None:
    """Become the command, or watch over the one that does."""
    spec, command = json.loads(sys.argv[1]), sys.argv[2:]
    child = _fork_under_guard(spec["parent"]) if spec["guard"] else 0
    if child:
        sys.exit(_ended(child))
    try:
        _limit(spec["limits"])
        _confine(spec)
        os.execvp(command[0], command)
    except OSError as error:
        print(f"The sandbox cannot be entered: {error}", file=sys.stderr)
        os._exit(126)


def _fork_under_guard(parent: int) -> int:
    signal.signal(signal.SIGTERM, _end_all)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
        libc.prctl(_ADOPT, 1, 0, 0, 0)  # what the tool leaves behind is waited for here
    if os.getppid() != parent:
        _end_all()
    if child := os.fork():
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return 0


def _end_all(*_: object) -> NoReturn:
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _ended(child: int) -> int:
    """The exit status of `child`, as a shell tells it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _limit(limits: dict[str, int]) -> None:
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_FSIZE, limits["file"])
    _set(resource.RLIMIT_NOFILE, limits["descriptors"])
    _set(resource.RLIMIT_AS, limits["memory"])
    soft = min(limits["cpu_s"], _hard(resource.RLIMIT_CPU))
    resource.setrlimit(resource.RLIMIT_CPU, (soft, min(soft + 1, _hard(resource.RLIMIT_CPU))))
    _set(resource.RLIMIT_NPROC, limits["processes"] + _tasks())


def _set(kind: int, most: int) -> None:
    most = min(most, _hard(kind))
    resource.setrlimit(kind, (most, most))


def _hard(kind: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _tasks() -> int:
    """Processes and threads of this user: the kernel counts them all, not only ours."""
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):  # noqa: PTH112, PTH208
        try:
            if os.stat(f"/proc/{pid}").st_uid == os.getuid():  # noqa: PTH116  (pathlib takes longer to import)
                count += len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
        except OSError:
            continue
    return count


def _confine(spec: dict[str, Any]) -> None:
    if spec["seccomp"] is None:
        return
    _drop_privileges()
    if walls := spec["landlock"]:
        landlock.restrict(walls["readable"], walls["writable"], network=spec["seccomp"]["network"])
        own = None if landlock.keeps_signals() else os.getpid()
        seccomp.apply(seccomp.Rules(network=spec["seccomp"]["network"], metadata=False, own=own))
    else:
        seccomp.apply(seccomp.Rules(network=spec["seccomp"]["network"]))


def _drop_privileges() -> None:
    """Whoever is root reads and owns no less after this, but may do nothing to the machine."""
    libc = ctypes.CDLL(None)
    for capability in range(64):
        libc.prctl(_DROP_BOUND, capability, 0, 0, 0)
    libc.prctl(_AMBIENT, _CLEAR_AMBIENT, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none):
        raise OSError("capabilities cannot be dropped")


if __name__ == "__main__":
    main()
