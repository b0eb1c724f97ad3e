"""Removing a conversation: rows that another one builds on move over to it, everything else goes for good."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from memory.chunkfile import ChunkFile
from memory.claim import claim
from memory.episode_store import forget_episodes
from memory.errors import DamagedFile
from memory.folder import CHUNKS, TAIL, KvFolder, make_private
from memory.index import BranchRow
from memory.lineage import Kept, used_by_others
from memory.score_store import SCORES_FILE
from memory.sweep import sweep

Heirs = Mapping[str, Sequence[int]]
"""Conversation -> the token ids of its text."""

NO_HEIRS: Heirs = MappingProxyType({})

REBUILD_S = 60.0
"""Longest rebuilding of an index that was lost: without it nobody knows who builds on what."""


def forget(folder: KvFolder, conversation: str, heirs: Heirs = NO_HEIRS) -> dict[Path, Path]:
    """Delete everything of a conversation: chunks, digests, tails, quarantine, index rows, scores, episodes.

    `heirs`: the texts of conversations that were forked from it and may not have been opened since; they get the rows
    that they begin with.

    Returns:
        Where the files went whose first rows are used by others.

    Raises:
        OSError: something of it could not be removed. It can be tried again.
    """
    if folder.index.fresh and any(folder.path.glob(f"*/*{CHUNKS}")):
        sweep(folder, REBUILD_S)
    for heir, ids in heirs.items():
        with suppress(OSError):  # removing must work on a full disk; then the fork is read again
            claim(folder, heir, conversation, ids)
    moved = _hand_over(folder, conversation)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder.conversation(conversation))
    folder.index.forget(conversation)
    if (folder.path / SCORES_FILE).exists():
        folder.scores.forget(conversation)
    forget_episodes(folder.path, conversation)
    return moved


def _hand_over(folder: KvFolder, conversation: str) -> dict[Path, Path]:
    """Give what others use to one of them; a file that cannot be given goes, with what builds on it."""
    branches, moved = folder.index.branches(), dict[Path, Path]()
    rows = {row.branch: row for row in branches}
    for name, kept in used_by_others(branches, conversation).items():
        source = folder.chunks(rows[name])
        target = folder.conversation(kept.heir) / source.name
        try:
            _give(folder, rows[name], kept, source, target)
            moved[source] = target
        except (DamagedFile, FileNotFoundError):
            folder.remove(rows[name])
    return moved


def _give(folder: KvFolder, row: BranchRow, kept: Kept, source: Path, target: Path) -> None:
    """Cut what only the old owner used, write the new one into the header, then move the file and say so."""
    make_private(target.parent)
    file = ChunkFile.open(source if source.exists() else target, writable=True)
    try:
        file.truncate(min(file.rows, kept.rows - row.first_row))
        file.give(kept.heir)
        if source.exists():
            source.replace(target)
        folder.index.give(row.branch, kept.heir, row.first_row + file.rows, file.size)
    finally:
        file.close()
    source.with_suffix(TAIL).unlink(missing_ok=True)
