"""The folders of tools: gone when the tool is, also those of an agent that was killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from assistant.agent.scratch import PREFIX, YOUNG_S, scratch, sweep

HOLDER = """
import asyncio, sys
from assistant.agent.scratch import scratch
async def hold():
    async with scratch() as folder:
        print(folder, flush=True)
        sys.stdin.read()
asyncio.run(hold())
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders are made here, by this process and its children; nothing was swept yet."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    sweep.cache_clear()
    return tmp_path


def aged(folder: Path) -> Path:
    old = time.time() - YOUNG_S - 1
    os.utime(folder, (old, old))
    return folder


async def enter() -> Path:
    async with scratch() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "closed").mkdir()
        (folder / "closed" / "file").write_text("x")
        (folder / "closed").chmod(0)
    return folder


def test_a_folder_is_removed_with_what_was_closed_in_it() -> None:
    assert not asyncio.run(enter()).exists()


def test_what_a_killed_agent_left_is_removed_by_the_next_and_what_a_living_one_uses_stays(temporary: Path) -> None:
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = []
    for holder in holders:
        assert holder.stdout is not None
        folders.append(aged(Path(holder.stdout.readline().strip())))
    killed, living = holders
    killed.kill()
    killed.wait()
    foreign = aged(Path(tempfile.mkdtemp(prefix="somebody-")))
    young = Path(tempfile.mkdtemp(prefix=PREFIX))
    link = temporary / f"{PREFIX}link"
    link.symlink_to(foreign)
    asyncio.run(enter())
    assert [folder.exists() for folder in folders] == [False, True]
    assert foreign.exists()
    assert young.exists()
    living.communicate("")
    assert not folders[1].exists()
    for stream in (killed.stdin, killed.stdout):
        assert stream is not None
        stream.close()
