"""What tests of the memory share."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the models are tiny and two test processes share two cores


@pytest.fixture
def always_bearable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are read exactly whatever the clock says: measured times must not decide what a test sees."""
    monkeypatch.setattr("memory.sealing.BEARABLE", float("inf"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A KV folder that is not there yet."""
    return tmp_path / "kv"
