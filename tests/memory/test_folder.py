"""The KV folder: one process, private files, nothing left of what was forgotten, every byte accounted for."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.block import CHUNK, chain, pack_ids
from memory.episode_store import EpisodeStore
from memory.errors import KvLocked
from memory.folder import KvFolder
from memory.forgetting import forget
from memory.score_store import ScoreStore
from tests.memory.branches import everything, open_tier, served, store, text
from tests.memory.failing import failing
from tests.memory.rows import FINGERPRINT

HOLDER = """
import sys
from pathlib import Path
from memory.folder import KvFolder
from memory.forgetting import forget
folder = KvFolder.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
folder.close()
"""


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder open; it closes it when its input says so or ends."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


# --- one process -----------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_told_who_has_it(holder: subprocess.Popen[str], path: Path) -> None:
    with pytest.raises(KvLocked, match=f"pid {holder.pid}"):
        KvFolder.open(path)
    assert KvFolder.walk(path).total > 0, "looking takes no lock"


def test_a_second_opening_in_the_same_process_is_refused(path: Path) -> None:
    folder = KvFolder.open(path)
    with pytest.raises(KvLocked, match=f"pid {os.getpid()}"):
        KvFolder.open(path)
    folder.close()
    KvFolder.open(path).close()


def test_a_predecessor_that_is_just_ending_is_waited_for(holder: subprocess.Popen[str], path: Path) -> None:
    assert holder.stdin is not None
    end = threading.Timer(0.1, holder.stdin.close)
    end.start()
    KvFolder.open(path, wait_s=20.0).close()
    end.join()


def test_the_lock_of_a_killed_process_is_free(holder: subprocess.Popen[str], path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(20.0)
    KvFolder.open(path).close()


def test_a_folder_that_can_not_be_opened_is_not_left_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir()
    (path / "index.db").mkdir()
    with pytest.raises(OSError, match="index"):
        KvFolder.open(path)
    (path / "index.db").rmdir()
    KvFolder.open(path).close()
    with failing(monkeypatch, "open", 1, errno.EROFS, for_ever=True), pytest.raises(OSError, match="Read-only"):
        KvFolder.open(path)


# --- private ---------------------------------------------------------------------------------------------------------


def test_files_and_folders_are_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        tier, ids = open_tier(path), [*text(1, 3), 5]
        branch = store(tier, "one", ids)
        tier.drop_from(branch, 1, "a test says so")
        store(tier, "one", ids)
        modes = {file: stat.S_IMODE(file.stat().st_mode) for file in [path, *path.rglob("*")]}
        tier.close()
    finally:
        os.umask(before)
    assert {mode for file, mode in modes.items() if file.is_dir()} == {0o700}
    assert {mode for file, mode in modes.items() if file.is_file()} == {0o600}


def test_an_open_folder_of_an_older_version_is_closed_to_others(path: Path) -> None:
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    KvFolder.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc", "a/b", "a\0b", "lock", "quarantine", "ü", "x" * 300])
def test_no_name_of_a_conversation_leads_out_of_the_folder(name: str, path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 2), 5]
    store(tier, name, ids)
    store(tier, "other", ids)
    assert tier.folder.conversation(name).parent == path
    assert served(tier, name, ids) == len(ids)
    tier.forget(name)
    assert served(tier, name, ids) == 0
    assert served(tier, "other", ids) == len(ids)
    tier.close()


# --- forgetting ------------------------------------------------------------------------------------------------------


def canaries(ids: list[int], conversation: str) -> list[bytes]:
    """What could give the conversation away: runs of token ids, chained ids, its name."""
    runs = [pack_ids(ids[first : first + 4]) for first in range(0, len(ids) - 3, 4)]
    links = chain(FINGERPRINT.digest, ids)
    return [*runs, *links, *(link.hex().encode() for link in links), conversation.encode()]


def traces(path: Path, wanted: list[bytes]) -> list[Path]:
    return [file for file in everything(path) if any(canary in file.read_bytes() for canary in wanted)]


def test_forgetting_leaves_no_byte_of_a_conversation(path: Path) -> None:
    tier, ids, kept = open_tier(path), [*text(1, 6), *range(7000, 7020)], [*text(2, 3), 5]
    other = [*text(3, 7, ids[: 4 * CHUNK]), *range(8000, 8020)]
    store(tier, "kept", kept)
    for stored in (ids, other):
        branch = store(tier, "canary-name", stored)
    tier.drop_from(branch, 5, "a test says so")
    store(tier, "canary-name", other)
    wanted = canaries(ids, "canary-name") + canaries(other, "canary-name")
    assert {file.suffix for file in traces(path, wanted)} >= {".kv", ".tail", ".row"}
    tier.forget("canary-name")
    assert traces(path, wanted) == []
    assert not (path / "canary-name").exists()
    assert served(tier, "kept", kept) == len(kept)
    assert "canary-name" not in tier.folder.usage().conversations
    tier.close()
    assert traces(path, wanted) == []


def test_forgetting_needs_no_index(path: Path) -> None:
    """Even where nothing is known of a conversation, its files go."""
    tier, ids = open_tier(path), [*text(1, 6), *range(7000, 7020)]
    store(tier, "canary-name", ids)
    tier.close()
    (path / "index.db").write_bytes(b"garbage")
    folder = KvFolder.open(path)
    forget(folder, "canary-name")
    assert traces(path, canaries(ids, "canary-name")) == []
    folder.close()


def test_forgetting_what_is_not_there_is_no_error(path: Path) -> None:
    folder = KvFolder.open(path)
    forget(folder, "nobody")
    folder.close()


def test_forgetting_that_fails_says_so_and_can_be_repeated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tier, ids = open_tier(path), [*text(1, 6), *range(7000, 7020)]
    store(tier, "canary-name", ids)
    with failing(monkeypatch, "unlink", 1, errno.EIO), pytest.raises(OSError, match="Input/output"):
        tier.forget("canary-name")
    tier.forget("canary-name")
    assert traces(path, canaries(ids, "canary-name")) == []
    tier.close()


def test_a_conversation_can_begin_again_after_it_was_forgotten(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 3), 5]
    store(tier, "one", ids)
    tier.forget("one")
    assert served(tier, "one", ids) == 0
    store(tier, "one", ids)
    assert served(tier, "one", ids) == len(ids)
    tier.close()


# --- how much --------------------------------------------------------------------------------------------------------


def test_every_byte_is_counted_once(path: Path) -> None:
    tier, ids = open_tier(path), [*text(1, 4), 5]
    branch = store(tier, "one", ids)
    store(tier, "two", ids)
    tier.drop_from(branch, 3, "a test says so")
    (path / "stray").write_bytes(b"12345")
    EpisodeStore(path / "episodes.db").close()
    ScoreStore(path / "scores.db").close()
    (path / "layers-ab.json").write_text("{}")
    usage = tier.folder.usage()
    sizes = {file: file.stat().st_size for file in everything(path)}
    assert usage.total == sum(sizes.values()) == sum(usage.kinds.values())
    kinds = {"chunks", "tails", "quarantine", "index", "scores", "episodes", "profiles", "other"}
    assert set(usage.kinds) == kinds
    assert all(usage.kinds.values())
    assert usage.conversations == {
        name: sum(size for file, size in sizes.items() if path / name in file.parents) for name in ("one", "two")
    }
    parts, total = tier.use()
    assert sum(parts.values()) == total
    tier.close()


def test_a_folder_that_is_not_there_holds_nothing(path: Path) -> None:
    assert KvFolder.walk(path).total == 0


# --- light -----------------------------------------------------------------------------------------------------------


def test_the_daemon_can_use_the_folder_without_torch() -> None:
    modules = "memory.folder, memory.index, memory.sweep, memory.tier.disk, memory.database"
    code = f"import {modules}, sys; sys.exit(' '.join(sys.modules.keys() & {{'torch', 'transformers', 'assistant'}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
