"""Fixtures for the tests of the worker: a tiny model and a folder for its KV."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.orders import KvSpec
from tests.worker.tiny import make_model_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    return make_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def kv(tmp_path: Path) -> KvSpec:
    """Tiers that keep what is sealed."""
    return KvSpec(folder=str(tmp_path / "kv"), disk=2**30, reserve=0)
