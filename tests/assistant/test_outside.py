"""What the program leaves alone: other folders than its own, and the network."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.errors import ModelError
from tests.assistant.command import run, run_json
from tests.assistant.talk import ask, with_client
from tests.conftest import RunningDaemon


def test_with_a_home_of_its_own_it_writes_nowhere_else(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon, its token, conversations, models and the diagnosis: all of it under ASSISTANT_HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    talk = tmp_path.parent / f"{tmp_path.name}.jsonl"
    talk.write_text('{"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]}\n')
    try:
        run("daemon", "start")
        run("daemon", "token")
        run("import", str(talk), "--conversation", "talk", "--text-only")
        assert [one["name"] for one in run_json("conversations", "list")] == ["talk"]
        run("models", "list")
        run("doctor")
    finally:
        run("daemon", "stop")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (home / "data" / "history.db").exists()


@contextmanager
def network() -> Iterator[tuple[str, socket.socket]]:
    """What stands for everything outside: its address as a proxy, and who has called."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        yield f"http://127.0.0.1:{door.getsockname()[1]}", door


def test_the_daemon_downloads_nothing(start_daemon: Callable[..., RunningDaemon]) -> None:
    """Whoever asks for a model that is not here is told how to fetch it; nobody outside is asked."""

    async def scene(client: Client) -> None:
        with pytest.raises(ModelError, match="assistant models pull smollm2-135m"):
            await ask(client, "hello", engine={"model": "smollm2-135m"})

    with network() as (proxy, door):
        start_daemon(HTTPS_PROXY=proxy, HTTP_PROXY=proxy, ALL_PROXY=proxy, PIP_INDEX_URL=proxy, HF_ENDPOINT=proxy)
        with_client(scene)
        with pytest.raises(BlockingIOError):
            door.accept()
