"""The KV folder: its lock, its index, its files. Torch-free, so that the daemon can clean up when no worker lives.

    kv/lock  kv/index.db  kv/episodes.db  kv/scores.db  kv/layers-<fingerprint>.json
    kv/<conversation>/<branch>.kv  kv/<conversation>/<branch>.tail  kv/<conversation>/quarantine/

Everything in it is disposable: what is missing is read again.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock, Timeout

from memory.episode_schema import EPISODES_FILE
from memory.errors import KvLocked
from memory.index import BranchRow, Index
from memory.names import safe_join
from memory.score_store import SCORES_FILE, ScoreStore

CHUNKS, TAIL, QUARANTINE = ".kv", ".tail", "quarantine"
LOCK, INDEX_FILE = "lock", "index.db"
PROFILE = "layers-"
"""Beginning of the names of layer profiles, one file a fingerprint."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


WAIT_S = 10.0
"""How long a program waits for the process before it to give the lock back."""

KINDS = ("chunks", "tails", "quarantine", "index", "scores", "episodes", "profiles", "other")
"""What files in the folder are."""


@dataclass(frozen=True, slots=True)
class FolderUsage:
    """Bytes on disk: by kind, by conversation folder; the parts add up to `total`."""

    kinds: dict[str, int] = field(default_factory=dict)
    conversations: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.kinds.values())


class KvFolder:
    """An open KV folder. Belongs to the thread that opened it; one process at a time."""

    def __init__(self, path: Path, lock: FileLock, index: Index) -> None:
        self.path = path
        self.index = index
        self.counters: Counter[str] = Counter()
        self._lock = lock
        self._scores: ScoreStore | None = None

    @classmethod
    def open(cls, path: Path, wait_s: float = 0.0) -> KvFolder:
        """Take the lock (waiting at most `wait_s` for a process that is just ending) and open the index.

        An index that is lost or damaged is empty then; `memory.sweep.sweep` fills it from the files.

        Raises:
            KvLocked: another process uses the folder.
            OSError: the folder cannot be used.
        """
        make_private(path)
        lock = FileLock(path / LOCK, mode=0o600, thread_local=False)
        try:
            lock.acquire(timeout=wait_s, poll_interval=0.02)
        except Timeout:
            raise KvLocked(f"Another process{_holder(path)} uses the KV folder {path}.") from None
        try:
            (path / LOCK).write_text(str(os.getpid()))
            return cls(path, lock, Index(path / INDEX_FILE))
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the index and give the lock back."""
        try:
            if self._scores is not None:
                self._scores.close()
            self.index.close()
        finally:
            self._lock.release()

    @property
    def scores(self) -> ScoreStore:
        """The scores of stored chunks; their file is made when it is first needed.

        Raises:
            OSError: it cannot be made.
        """
        if self._scores is None or not self._scores.path.exists():
            self._scores = ScoreStore(self.path / SCORES_FILE)
        return self._scores

    def drop_scores(self) -> None:
        """Remove every score, which can be made again, and the file.

        Raises:
            OSError: it could not be removed.
        """
        if self._scores is not None:
            self._scores.close()
        self._scores = None
        for path in self.path.glob(f"{SCORES_FILE}*"):
            path.unlink(missing_ok=True)

    def conversation(self, name: str) -> Path:
        """The folder of a conversation (made when something is written)."""
        return place_of(self.path, name)

    def chunks(self, row: BranchRow) -> Path:
        """The chunk file of a branch."""
        return chunks_of(self.path, row.conversation, row.branch)

    def holds(self, branch: str) -> bool:
        """Whether there is a file of this branch, whatever the index says."""
        return any(self.path.glob(f"*/{branch}{CHUNKS}"))

    def remove(self, row: BranchRow) -> None:
        """Delete a branch: chunk file, tail, index row. Children of it are useless and go too.

        Raises:
            OSError: a file or the index row could not be removed.
        """
        for child in self.index.children(row.branch):
            self.remove(child)
        for path in (self.chunks(row), self.chunks(row).with_suffix(TAIL)):
            with suppress(FileNotFoundError):
                path.unlink()
        self.index.remove(row.branch)

    def usage(self) -> FolderUsage:
        """What lies on the disk now."""
        return self.walk(self.path)

    @classmethod
    def walk(cls, root: Path) -> FolderUsage:
        """What lies under `root`, which another process may be using."""
        usage = FolderUsage(dict.fromkeys(KINDS, 0))
        for folder, _, names in os.walk(root):
            for name in names:
                with suppress(FileNotFoundError):
                    _count(usage, root, Path(folder) / name)
        return usage


def place_of(root: Path, conversation: str) -> Path:
    """Where in the KV folder `root` the files of a conversation lie."""
    plain = _PLAIN.fullmatch(conversation) and conversation not in (LOCK, QUARANTINE)
    return safe_join(root, conversation if plain else blake2b(conversation.encode(), digest_size=20).hexdigest())


def chunks_of(root: Path, conversation: str, branch: str) -> Path:
    """Where in the KV folder `root` the chunk file of a branch lies; both names may come out of a file."""
    return safe_join(place_of(root, conversation), branch + CHUNKS)


def make_private(folder: Path) -> None:
    """Create `folder` with mode 0700, whatever the umask."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _count(usage: FolderUsage, root: Path, path: Path) -> None:
    size, parts = path.stat().st_size, path.relative_to(root).parts
    usage.kinds[_kind(path, parts)] += size
    if len(parts) > 1:
        usage.conversations[parts[0]] = usage.conversations.get(parts[0], 0) + size


def _kind(path: Path, parts: tuple[str, ...]) -> str:
    if QUARANTINE in parts:
        return "quarantine"
    if path.suffix in (CHUNKS, TAIL):
        return "chunks" if path.suffix == CHUNKS else "tails"
    for file, kind in ((EPISODES_FILE, "episodes"), (SCORES_FILE, "scores")):
        if path.name.startswith(file):
            return kind
    if path.name.startswith(PROFILE) and len(parts) == 1:
        return "profiles"
    return "index" if path.name.startswith(INDEX_FILE) else "other"


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError):
        return f" (pid {int((path / LOCK).read_text())})"
    return ""


def now() -> float:
    """Wall time in seconds; only ages of files are measured with it, never recency."""
    return time.time()
