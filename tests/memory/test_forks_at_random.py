"""Forks, edits, removals and restarts at random: every conversation is served whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from memory.block import CHUNK
from memory.sweep import sweep
from tests.memory.branches import open_tier, served, store, text
from tests.memory.rows import KEEP
from tests.memory.test_sweep import assert_true


class Family:
    """Conversations that are forked, edited, forgotten and evicted at random."""

    def __init__(self, root: Path, seed: int) -> None:
        self.source, self.root = random.Random(seed), root
        self.tier = open_tier(root)
        self.texts = {"0": text(seed, 3)}
        self.origins: dict[str, list[str]] = {"0": []}
        self.steps = [self.turn, self.turn, self.edit, self.fork, self.fork, self.forget, self.restart, self.sweep]
        store(self.tier, "0", self.texts["0"])

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.source.choice(self.steps)()
            for name, ids in self.texts.items():
                assert served(self.tier, name, ids, self.origins[name]) == len(ids)

    def any(self) -> str:
        return self.source.choice(sorted(self.texts))

    def write(self, name: str, begin: list[int]) -> None:
        """One more row and a few tokens after `begin`."""
        self.texts[name] = text(self.source.randrange(10**9), len(begin) // CHUNK + 1, begin)
        self.texts[name] += self.source.sample(range(1000), self.source.randrange(CHUNK))
        store(self.tier, name, self.texts[name], self.origins[name])

    def turn(self) -> None:
        name = self.any()
        self.write(name, self.texts[name])

    def edit(self) -> None:
        name = self.any()
        self.write(name, self.texts[name][: self.source.randrange(len(self.texts[name]) + 1)])

    def fork(self) -> None:
        origin, name = self.any(), str(self.source.randrange(10**9))
        self.origins[name] = [origin, *self.origins[origin]]
        self.write(name, self.texts[origin][: self.source.randrange(len(self.texts[origin]) + 1)])

    def forget(self) -> None:
        if len(self.texts) > 1:
            name = self.any()
            self.tier.forget(name)
            del self.texts[name]
            assert not self.tier.folder.conversation(name).exists()

    def restart(self) -> None:
        self.tier.close()
        if self.source.random() < 0.5:
            (self.root / "index.db").unlink()
        self.tier = open_tier(self.root)
        self.tier.sweep(10.0)

    def sweep(self) -> None:
        listed = self.tier.folder.index.branches()
        report = sweep(self.tier.folder, 10.0, keep=KEEP)
        assert (report.removed, report.failed) == (0, 0)
        assert self.tier.folder.index.branches() == listed


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_forked_edited_and_forgotten_every_conversation_is_served_whole(seed: int, tmp_path: Path) -> None:
    family = Family(tmp_path / "kv", seed)
    family.run(25)
    assert_true(family.tier.folder)
    for name in sorted(family.texts):
        family.tier.forget(name)
    assert not list((tmp_path / "kv").glob("*/*"))
    family.tier.close()
