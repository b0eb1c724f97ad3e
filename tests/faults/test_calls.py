"""The Nth call of the operating system fails: the chat goes on with the right results, and says so at most once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

import memory.chunkfile
import memory.publish
from memory.errors import RowDamaged
from tests.faults.failing import CALLS, FaultyOs, fails_with
from tests.memory.models import full_logits, tokens
from tests.memory.tiers import read_all, stored_memory

TEXT = tokens(450, 7)
CUTS = (70, 200, 330, 450)
EXPECTED = {cut: full_logits("llama", TEXT[:cut])[-1] for cut in CUTS}


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("name", CALLS)
def test_any_failing_call_leaves_the_results_right(
    name: str, code: int, sticky: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in (1, 2, 5):
        folder = tmp_path / str(at)
        faulty = FaultyOs(name, at, fails_with(code), sticky=sticky)
        with stored_memory("llama", folder, capacity=200, mode="exact", durable=True) as mind:
            for module in (memory.chunkfile, memory.publish):
                monkeypatch.setattr(module, "os", faulty)
            for cut in CUTS:
                logits = read_all(mind, TEXT[:cut])[1]
                assert torch.isfinite(logits).all()
                if mind.exact:
                    assert torch.allclose(logits, EXPECTED[cut], atol=1e-3)
                mind.seal()
            assert mind.spill is not None
            mind.spill.flush()
            assert mind.spill.counters["write_errors"] <= 1, "it tried again at once"
            if name in ("pwrite", "write") and faulty.struck:
                assert mind.spill.notice is not None
        monkeypatch.undo()
        with stored_memory("llama", folder, capacity=512) as mind:  # what is on disk is whole or absent
            assert torch.allclose(read_all(mind, TEXT)[1], EXPECTED[450], atol=1e-3)


def test_a_read_only_folder_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stored_memory("llama", tmp_path) as mind:
        monkeypatch.setattr(memory.publish, "os", FaultyOs("open", 1, fails_with(errno.EROFS), sticky=True))
        assert torch.allclose(read_all(mind, TEXT[:330])[1], EXPECTED[330], atol=1e-4)
        mind.seal()
        assert mind.spill is not None
        mind.spill.flush()
        assert mind.spill.notice is not None
        assert "read-only" in mind.spill.notice
        assert not mind.spill.writing


def test_spilling_comes_back_after_its_rest_and_stores_what_is_still_resident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stored_memory("llama", tmp_path) as mind:
        assert mind.spill is not None
        monkeypatch.setattr(memory.chunkfile, "os", FaultyOs("pwrite", 2, fails_with(errno.ENOSPC)))
        read_all(mind, TEXT[:300])
        mind.spill.flush()
        assert mind.spill.counters["write_errors"] == 1
        assert mind.stored == 64
        assert not mind.spill.writing
        monkeypatch.setattr(mind.spill, "_rest_until", 0.0)
        read_all(mind, TEXT)
        mind.seal()
        mind.spill.flush()
        assert mind.stored == 448
        assert mind.spill.notice is None
    with stored_memory("llama", tmp_path) as mind:
        assert mind.resume([*TEXT, 1]).reused == 450


@pytest.mark.parametrize("layer", [0, 2])
def test_a_row_that_turns_out_damaged_in_the_middle_of_a_reply_is_read_again(layer: int, tmp_path: Path) -> None:
    with stored_memory("llama", tmp_path, capacity=200, mode="exact") as mind:
        mind.protect(4)
        read_all(mind, TEXT[:440])
        assert mind.spill is not None
        mind.spill.flush()
        path = next(tmp_path.rglob("*.kv"))
        data = bytearray(path.read_bytes())
        layout = mind.spill.layout
        data[-5 * layout.stride + layout.offsets[layer] + 100] ^= 1
        path.write_bytes(data)
        mind.spill.call(mind.spill.disk.close_files)
        for at in range(440, 450):
            logits = mind.step(TEXT[at])
        assert torch.allclose(logits, EXPECTED[450], atol=1e-3)
        assert mind.spill.disk.counters["rows_damaged"] == 1
        assert list(tmp_path.rglob("quarantine/*"))
        assert RowDamaged(3, "why").row == 3
