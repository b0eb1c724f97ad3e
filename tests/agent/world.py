"""The world around a sandbox: files, sockets and a process that must stay as they are, and a secret to be kept."""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

_VICTIM = """
import ctypes, os, signal, sys
signal.signal(signal.SIGURG, lambda *_: os._exit(3))
text = ctypes.create_string_buffer(os.environ["SECRET"].encode())
print(ctypes.addressof(text), flush=True)
sys.stdin.read()
"""
_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
PRELUDE = """
import contextlib, ctypes, os, platform, resource, signal, socket, struct, time
W = {places!r}
X86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
def got(success):
    if success:
        print("ESC" + "APED", flush=True)
"""


class World:
    """A context manager; `places` is what an attempt is told."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.heard: list[str] = []
        self._monkeypatch = pytest.MonkeyPatch()
        self.ground = Path(tempfile.mkdtemp(prefix="world-")).resolve()
        self.other = Path(tempfile.mkdtemp(suffix=self.secret))
        self.shm = Path("/dev/shm", f"world-{os.getpid()}-{secrets.token_hex(4)}")
        self.scratch = Path(tempfile.mkdtemp(prefix="scratch-"))
        self.tmp = tempfile.gettempdir()
        self._core_pattern = _CORE_PATTERN.read_text()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._make_files()
        environ = {"HOME": str(self.ground / "home"), "ASSISTANT_HOME": str(self.assistant), "A_TOKEN": self.secret}
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)
        self._monkeypatch.setattr(tempfile, "tempdir", str(self.scratch))
        self._open = os.open(self.ground / "outside" / "secret", os.O_RDONLY)
        os.set_inheritable(self._open, True)
        self._listen()
        self._start_victim()
        return self

    def __exit__(self, *_: object) -> None:
        self._monkeypatch.undo()
        if _CORE_PATTERN.read_text() != self._core_pattern:  # an attempt got out, and this one concerns everybody
            _CORE_PATTERN.write_text(self._core_pattern)
        self.victim.kill()
        self.victim.communicate()
        os.close(self._open)
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for folder in (self.ground, self.other, self.scratch):
            shutil.rmtree(folder)
        for path in self.shm.parent.glob(self.shm.name + "*"):
            path.unlink()

    @property
    def assistant(self) -> Path:
        """The assistant's own folder; it lies in the working directory of the program, to make that hard."""
        return self.ground / "root" / ".assistant"

    @property
    def descriptor(self) -> int:
        """An open file with the secret in it, which children inherit if nobody closes it."""
        return self._open

    def state(self) -> dict[str, Any]:
        """All that an attempt could change."""
        return {
            "files": {str(path): _file(path) for path in (self.ground, *sorted(self.ground.rglob("*")))},
            "shared memory": sorted(path.name for path in self.shm.parent.glob(self.shm.name + "*")),
            "heard": list(self.heard),
            "victim": self._victim_state(),
            "host": socket.gethostname(),
            "left behind": sorted(path.name for path in self.scratch.iterdir()),
            "core pattern": _CORE_PATTERN.read_text(),
        }

    def running(self) -> list[int]:
        """Processes of calls: their environment names the folder in which all of those have theirs."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if str(self.scratch).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def places(self) -> dict[str, Any]:
        """What an attempt is told: the prelude's W, and the names in braces of a shell's command."""
        outside = self.ground / "outside"
        return {
            "home": str(self.ground / "home"),
            "outside": str(outside),
            "secret": str(outside / "secret"),
            "readable": str(self.ground / "root" / "readable"),
            "root": str(self.ground / "root"),
            "history": str(self.assistant / "data" / "history.db"),
            "daemon": str(self.assistant / "run" / "daemon.sock"),
            "journal": str(self.ground / "journal"),
            "abstract": self._abstract,
            "tcp": self._ports["tcp"],
            "udp": self._ports["udp"],
            "tmp": self.tmp,
            "shm": str(self.shm),
            "victim": self.victim.pid,
            "address": self._address,
        }

    def _make_files(self) -> None:
        for path in ("home/.ssh/id_rsa", "outside/secret", "root/.assistant/data/history.db"):
            file = self.ground / path
            file.parent.mkdir(parents=True)
            file.write_text(self.secret)
        for name in ("state/kv", "run", "cache", "models"):
            (self.assistant / name).mkdir(parents=True)
        (self.ground / "root" / "readable").write_text("anybody may read this")
        (self.ground / "root" / "link").symlink_to("../outside/secret")
        self.shm.write_text(self.secret)

    def _listen(self) -> None:
        self._abstract = "\0world-" + secrets.token_hex(8)
        tcp = self._socket(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), "tcp")
        udp = self._socket(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0), "udp")
        self._ports = {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1]}
        self._socket(socket.AF_UNIX, socket.SOCK_STREAM, self._abstract, "abstract")
        self._socket(socket.AF_UNIX, socket.SOCK_STREAM, str(self.assistant / "run" / "daemon.sock"), "daemon")
        self._socket(socket.AF_UNIX, socket.SOCK_DGRAM, str(self.ground / "journal"), "journal")

    def _socket(self, family: int, kind: int, address: Any, name: str) -> socket.socket:
        one = socket.socket(family, kind)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        self._sockets.append(one)
        threading.Thread(target=self._hear, args=(one, kind, name), daemon=True).start()
        return one

    def _hear(self, one: socket.socket, kind: int, name: str) -> None:
        with suppress(OSError):
            while True:
                if kind == socket.SOCK_STREAM:
                    one.accept()[0].close()
                elif not one.recv(4096):
                    return
                self.heard.append(name)

    def _start_victim(self) -> None:
        command = [sys.executable, "-S", "-c", _VICTIM]
        environ = {"SECRET": self.secret}
        self.victim = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True, start_new_session=True
        )
        assert self.victim.stdout is not None
        self._address = int(self.victim.stdout.readline())

    def _victim_state(self) -> Any:
        if (code := self.victim.poll()) is not None:
            return f"ended with {code}"
        pid = self.victim.pid
        limits = [resource.prlimit(pid, kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)]
        return limits, os.getpriority(os.PRIO_PROCESS, pid), sorted(os.sched_getaffinity(pid))


def _file(path: Path) -> Any:
    found = path.lstat()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else None
    attributes = os.listxattr(path, follow_symlinks=False)
    return found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_mtime_ns, content, attributes
