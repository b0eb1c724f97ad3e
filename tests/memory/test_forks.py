"""Forks and edits read nothing twice, and every conversation answers as if it had been read alone."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from memory.chunkfile import PAGE
from memory.store import Memory
from memory.tier.ram import RamTier
from tests.memory.models import full_logits, tokens
from tests.memory.tiers import read_all, stored_memory

TEXT = tokens(400, 5)
OTHER = tokens(400, 6)


def go_on(memory: Memory, name: str, ids: list[int], origins: tuple[str, ...] = ()) -> tuple[int, torch.Tensor]:
    """A turn of a conversation: opened, resumed, read, sealed; tokens reused and the logits after the last."""
    memory.open(name, origins)
    reused, logits = read_all(memory, ids)
    memory.seal()
    return reused, logits


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_fork_reads_what_its_origin_read_from_disk_and_answers_the_same(
    kind: str, restart: bool, tmp_path: Path
) -> None:
    fork = [*TEXT[:200], *OTHER[:30]]
    with ExitStack() as stack:
        memory = stack.enter_context(stored_memory(kind, tmp_path, mode="exact"))
        go_on(memory, "chat", TEXT[:300])
        if restart:
            stack.close()
            memory = stack.enter_context(stored_memory(kind, tmp_path, mode="exact"))
        memory.open("fork", ("chat",))
        resumed = memory.resume(fork)
        assert (resumed.reused, resumed.source) == (200, "disk"), "also the beginning of a row"
        assert torch.allclose(memory.read(fork[200:]), full_logits(kind, fork)[-1], atol=1e-4)
        memory.seal()
        reused, logits = go_on(memory, "chat", [*TEXT[:310]])
        assert reused == 300
        assert torch.allclose(logits, full_logits(kind, TEXT[:310])[-1], atol=1e-4)


def test_a_duplicate_reads_nothing_but_the_new_turn(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path) as memory:
        go_on(memory, "chat", TEXT[:300])
        reused, logits = go_on(memory, "copy", [*TEXT[:300], *OTHER[:10]], ("chat",))
        assert reused == 300
        assert torch.allclose(logits, full_logits("llama", [*TEXT[:300], *OTHER[:10]])[-1], atol=1e-4)


def test_a_fork_outlives_its_origin_also_while_both_are_resident(tmp_path: Path) -> None:
    fork = [*TEXT[:256], *OTHER[:30]]
    with stored_memory("llama", tmp_path, mode="exact") as memory:
        go_on(memory, "chat", TEXT[:300])
        go_on(memory, "fork", fork, ("chat",))
        memory.forget("chat")
        assert go_on(memory, "fork", [*fork, *OTHER[30:40]], ("chat",))[0] == len(fork)
        assert go_on(memory, "chat", TEXT[:310])[0] == 0, "what was forgotten is read again"
    with stored_memory("llama", tmp_path, mode="exact") as memory:
        whole = [*fork, *OTHER[30:50]]
        reused, logits = go_on(memory, "fork", whole, ("chat",))
        assert reused == len(fork) + 10
        assert torch.allclose(logits, full_logits("llama", whole)[-1], atol=1e-4)


def test_a_fork_that_is_being_read_exactly_goes_on_when_its_origin_is_forgotten(tmp_path: Path) -> None:
    """More is stored than the working set holds, so that every token is attended to from disk."""
    fork, whole = [*TEXT[:384], *OTHER[:20]], [*TEXT[:384], *OTHER[:60]]
    with stored_memory("llama", tmp_path, capacity=200, mode="exact") as memory:
        go_on(memory, "chat", TEXT)
        memory.open("fork", ("chat",))
        read_all(memory, fork)
        memory.spill.forget("chat")  # type: ignore[union-attr]
        logits = memory.read(OTHER[20:60])
        assert memory.served == "exact"
        assert torch.allclose(logits, full_logits("llama", whole)[-1], atol=1e-3)


def test_an_edit_reuses_the_longest_common_beginning_of_anything_that_is_stored(tmp_path: Path) -> None:
    first, second = [*TEXT[:200], *OTHER[:100]], [*TEXT[:200], *OTHER[200:300]]
    with stored_memory("llama", tmp_path) as memory:
        go_on(memory, "chat", first)
        assert go_on(memory, "chat", second)[0] == 200
        reused, logits = go_on(memory, "chat", [*first, 7])
        assert reused == 300, "what was left is still stored"
        assert torch.allclose(logits, full_logits("llama", [*first, 7])[-1], atol=1e-4)
    for text, common in (([*first[:250], *OTHER[350:360]], 250), ([*second[:299], 1, 2], 299), ([*TEXT[:70], 3], 70)):
        with stored_memory("llama", tmp_path) as memory:
            reused, logits = go_on(memory, "chat", text)
            assert reused == common
            assert torch.allclose(logits, full_logits("llama", text)[-1], atol=1e-4)


@pytest.mark.parametrize("codec", ["int8", "int4"])
def test_a_row_that_two_texts_begin_is_sealed_for_each_of_them(codec: str, tmp_path: Path) -> None:
    fork = [*TEXT[:200], *OTHER[:100]]
    with stored_memory("llama", tmp_path, codec=codec) as memory:
        go_on(memory, "chat", TEXT[:300])
    with stored_memory("llama", tmp_path, codec=codec) as memory:
        reused, logits = go_on(memory, "fork", fork, ("chat",))
        assert reused == 200
        memory.spill.call(int)  # type: ignore[union-attr]  # waits for what was handed over before
        assert memory.stored == 256
    with stored_memory("llama", tmp_path, codec=codec) as memory:
        again = go_on(memory, "fork", [*fork, 5], ())
        assert again[0] == 300
        assert torch.isfinite(again[1]).all()
        assert torch.allclose(logits, full_logits("llama", fork)[-1], atol=2.0 if codec == "int4" else 0.2)


@pytest.mark.parametrize("mode", ["exact", "bounded"])
@pytest.mark.parametrize("policy", ["sinks_recent", "recall", "patched_prompt"])
@pytest.mark.parametrize("kind", ["llama", "mistral_sliding", "gemma3"])
def test_a_fork_in_the_middle_of_more_than_fits_is_stored_whole(
    kind: str, policy: str, mode: str, tmp_path: Path
) -> None:
    fork = [*TEXT[:310], *OTHER[:100]]
    with stored_memory(kind, tmp_path, capacity=200, policy=policy, mode=mode) as memory:
        go_on(memory, "chat", TEXT)
    with stored_memory(kind, tmp_path, capacity=200, policy=policy, mode=mode) as memory:
        assert go_on(memory, "fork", fork, ("chat",))[0] == 310
    with stored_memory(kind, tmp_path, capacity=200, policy=policy, mode=mode) as memory:
        reused, logits = go_on(memory, "fork", [*fork, 5])
        assert reused == 410
        assert torch.isfinite(logits).all()


def test_a_damaged_row_that_a_fork_begins_with_is_read_again(tmp_path: Path) -> None:
    fork = [*TEXT[:200], *OTHER[:30]]
    with stored_memory("llama", tmp_path) as memory:
        go_on(memory, "chat", TEXT[:300])
    file = next(tmp_path.glob("chat/*.kv"))
    data = bytearray(file.read_bytes())
    stride = (len(data) - PAGE) // 4
    data[-stride // 2] ^= 1  # a section of the last row, tokens 192 to 255
    file.write_bytes(data)
    with stored_memory("llama", tmp_path) as memory:
        reused, logits = go_on(memory, "fork", fork, ("chat",))
        assert reused == 192
        assert torch.allclose(logits, full_logits("llama", fork)[-1], atol=1e-4)


def test_rows_in_ram_serve_the_fork_and_are_read_from_disk_by_nobody(tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, ram_rows=16) as memory:
        spill = memory.spill
        assert spill is not None
        go_on(memory, "chat", TEXT[:256])
        spill.flush()
        used = spill.ram.used
        assert go_on(memory, "fork", [*TEXT[:256], *OTHER[:20]], ("chat",))[0] == 256
        assert spill.disk.counters["rows_read"] == 0
        assert spill.ram.used == used, "one slot serves both"
        assert spill.ram.tokens == {"chat": 256, "fork": 256}
        memory.forget("chat")
        assert spill.ram.used == used
        assert go_on(memory, "other", TEXT[:64])[0] == 0
        assert go_on(memory, "fork", [*TEXT[:256], *OTHER[:30]], ("chat",))[0] == 276
        assert spill.disk.counters["rows_read"] == 0
        memory.forget("fork")
        memory.forget("other")
        assert spill.ram.used == 0


def test_a_slot_is_free_when_the_last_who_holds_it_lets_it_go() -> None:
    ram, chains = RamTier(4 * 8, 8), [bytes([number]) for number in range(4)]
    for number, chain in enumerate(chains):
        assert ram.put("a", number, chain, lambda slot, number=number: slot.fill_(number))
    ram.share("a", "b", [*chains[:2], b"another"])
    assert (ram.used, ram.tokens) == (32, {"a": 256, "b": 128})
    ram.put("b", 1, b"own", lambda slot: slot.fill_(9))
    into = torch.zeros(8, dtype=torch.uint8)
    assert ram.read("a", 1, chains[1], into, 0), "who shares a slot does not overwrite it for the other"
    assert into[0] == 1
    assert ram.read("b", 1, b"own", into, 0)
    assert into[0] == 9
    assert not ram.read("a", 3, chains[3], into, 0), "the last row of the one used longest ago gave way"
    ram.drop("a")
    assert ram.read("b", 0, chains[0], into, 0)
    assert ram.used == 16
    ram.drop("b")
    assert ram.used == 0
    assert all(ram.put("c", number, chains[number], lambda slot: slot.fill_(0)) for number in range(4))


# --- anything that can happen ----------------------------------------------------------------------------------------


class Family:
    """Conversations of one memory that go on, are edited, forked and forgotten at random."""

    def __init__(self, root: Path, seed: int) -> None:
        self.source, self.root, self.stack = random.Random(seed), root, ExitStack()
        self.ram_rows = self.source.choice((0, 4, 64))
        self.texts = {"0": tokens(150, seed)}
        self.origins: dict[str, tuple[str, ...]] = {"0": ()}
        self.start()
        go_on(self.memory, "0", self.texts["0"])

    def start(self) -> None:
        opened = stored_memory("llama", self.root, mode="exact", ram_rows=self.ram_rows)
        self.memory = self.stack.enter_context(opened)

    def any(self) -> str:
        return self.source.choice(sorted(self.texts))

    def say(self, name: str, begin: list[int]) -> None:
        """The conversation goes on after `begin`; what comes out is what reading all of it gives."""
        self.texts[name] = [*begin[:250], *tokens(self.source.randint(1, 90), self.source.randrange(10**6))]
        ids = self.texts[name]
        reused, logits = go_on(self.memory, name, ids, self.origins[name])
        assert reused >= min(len(begin), 250), "nothing that was said is read twice"
        assert torch.allclose(logits, full_logits("llama", ids)[-1], atol=1e-4)

    def turn(self) -> None:
        name = self.any()
        self.say(name, self.texts[name])

    def edit(self) -> None:
        name = self.any()
        self.say(name, self.texts[name][: self.source.randrange(len(self.texts[name]))])

    def fork(self) -> None:
        origin, name = self.any(), str(self.source.randrange(10**9))
        self.origins[name] = (origin, *self.origins[origin])
        self.say(name, self.texts[origin][: self.source.randrange(1, len(self.texts[origin]) + 1)])

    def forget(self) -> None:
        if len(self.texts) > 1:
            name = self.any()
            self.memory.forget(name)
            del self.texts[name]

    def restart(self) -> None:
        self.stack.close()
        self.start()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.source.choice((self.turn, self.edit, self.edit, self.fork, self.fork, self.forget, self.restart))()
        for name in sorted(self.texts):
            self.say(name, self.texts[name])


@pytest.mark.parametrize("seed", range(12))
def test_any_tree_of_forks_edits_and_removals_answers_like_a_fresh_reading(seed: int, tmp_path: Path) -> None:
    family = Family(tmp_path, seed)
    with family.stack:
        family.run(14)
