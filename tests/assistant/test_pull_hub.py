"""Pulling an `hf:` repository, against a hub of our own on the loopback interface."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.errors import ModelError
from assistant.places import Places
from tests.assistant.test_pull import entry_of, finish, pull_quietly, read_until, start_pull
from tests.fake_hub import COMMIT, FakeHub

NAME = "someone/tiny"
SOURCE = f"hf:{NAME}@main"


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(os.urandom(3_000_000))
    (folder / "pytorch_model.bin").write_bytes(b"another form of the same weights")
    served = FakeHub(folder, NAME)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "5")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield served
    served.close()


def test_a_repository_becomes_a_model_at_a_named_commit(hub: FakeHub, places: Places) -> None:
    reports = pull_quietly(places, SOURCE)
    entry = entry_of(places, SOURCE)
    folder = entry.folder(places)
    assert entry.present(places)
    assert json.loads((folder / "assistant.json").read_text())["commit"] == COMMIT
    assert sorted(path.name for path in folder.iterdir()) == [
        "assistant.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert {report.stage for report in reports} == {"download", "verify", "done"}


def test_a_file_that_is_not_what_the_hub_recorded_is_removed(hub: FakeHub, places: Places) -> None:
    hub.wrong_sums = True
    with pytest.raises(ModelError, match=r"model\.safetensors was damaged on the way and is removed"):
        pull_quietly(places, SOURCE)
    assert not list(places.models.rglob("*.safetensors"))
    hub.wrong_sums = False
    pull_quietly(places, SOURCE)
    assert entry_of(places, SOURCE).present(places)


def test_an_unknown_repository_is_named(hub: FakeHub, places: Places) -> None:
    with pytest.raises(ModelError, match="the hub has no someone/else at this revision"):
        pull_quietly(places, "hf:someone/else")


def test_without_a_network_the_command_is_named(hub: FakeHub, places: Places) -> None:
    hub.close()
    with pytest.raises(ModelError, match=r"With a network, run: assistant models pull hf:someone/tiny@main"):
        pull_quietly(places, SOURCE)


def test_an_interrupted_download_leaves_no_model_and_can_be_run_again(hub: FakeHub, places: Places) -> None:
    hub.stop_after = 1_000_000
    child = start_pull(SOURCE)
    read_until(child, "download")
    os.killpg(child.pid, signal.SIGINT)
    code, said = finish(child)
    assert code == 130
    assert "Traceback" not in said
    assert not entry_of(places, SOURCE).folder(places).exists()
    hub.stop_after = None
    pull_quietly(places, SOURCE)
    assert entry_of(places, SOURCE).present(places)
