"""Names in paths of the API are names, whatever they are made of: none becomes a path, none breaks anything."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from tests.assistant.knocking import GOOD_HOST, GOOD_TOKEN, Door, at_socket, request
from tests.conftest import RunningDaemon
from tests.hostile import HOSTILE


def on_disk(folder: Path) -> set[str]:
    """Everything below a folder but SQLite's own files beside a database."""
    paths = (os.path.relpath(path, folder) for path in folder.rglob("*"))
    return {path for path in paths if not path.endswith(("-wal", "-shm", "-journal"))}


def in_path(name: str) -> str:
    return quote(name.encode("utf-8", "surrogatepass"), safe="")


def test_hostile_names_of_conversations_stay_names(daemon: RunningDaemon) -> None:
    home = daemon.places.runtime.parent
    with at_socket(daemon.places) as http:
        http.post("/api/conversations/first/ask", json={"text": "hello"})
        before = on_disk(home)
        kept = [name for name in HOSTILE if not _has_half_a_pair(name) and _store(http, name)]
        assert on_disk(home) == before  # text goes to the database only
        for name in kept:
            assert http.get(f"/api/conversations/{in_path(name)}/about").json()["name"] == name
        listed = {row["name"] for row in http.get("/api/conversations").json()}
        assert listed == {*kept, "first"}
        for name in kept[::25]:
            answer = http.post(f"/api/conversations/{in_path(name)}/ask", json={"text": "hello"})
            assert b"event: done" in answer.content, name
        fresh = on_disk(home) - before
        assert fresh
        assert all(path.startswith("state/kv/") for path in fresh)
        assert not [name for name in ("secret", "link", "etc", "daemon.sock") if (home.parent / name).exists()]
    assert len(kept) > 300


def _has_half_a_pair(name: str) -> bool:
    return name != name.encode("utf-8", "replace").decode()


def _store(http: httpx2.Client, name: str) -> bool:
    """Whether a conversation of this name can be made; no name is more than refused."""
    turns = {"turns": [{"role": "user", "text": "x"}]}
    answer = http.post(f"/api/conversations/{in_path(name)}/turns", json=turns)
    assert answer.status_code in (200, 404, 405, 422), (name, answer)
    return bool(answer.status_code == 200)


def test_hostile_names_of_everything_else(shared_daemon: RunningDaemon) -> None:
    with at_socket(shared_daemon.places) as http:
        for name in HOSTILE:
            if not name.strip("./"):
                continue  # this client resolves them itself; the test after this one sends them
            said = in_path(name)
            for path in (f"/api/programs/{said}", f"/api/turns/{said}/conversation", f"/{said}"):
                answer = http.get(path)
                assert answer.status_code in (400, 404, 405, 422), (path, answer)
        for name in HOSTILE[::5]:
            plain = name.encode("utf-8", "replace").decode()
            for engine in ({"model": plain[:512]}, {"policy": plain[:40]}):
                answer = http.post("/api/programs/0/step", json={"engine": engine})
                assert answer.status_code in (404, 409, 400), (engine, answer)


@pytest.mark.parametrize("target", ["/api/conversations/../../etc/passwd/about", "/../../etc/passwd", "/api/../health"])
def test_dots_in_a_target_are_not_resolved(shared_daemon: RunningDaemon, target: str) -> None:
    door = Door.of(shared_daemon)
    assert door.exchange(door.filled(request(target, GOOD_HOST, GOOD_TOKEN))).status == 404


def test_a_model_is_no_path_for_a_client_at_tcp(shared_daemon: RunningDaemon, tmp_path: Path) -> None:
    body = {"text": "hello", "engine": {"model": f"file:{tmp_path}"}}
    turns = {"turns": [{"role": "user", "text": "x"}], "engine": body["engine"]}
    with Door.of(shared_daemon).client() as tcp, at_socket(shared_daemon.places) as http:
        for path, said in (("ask", body), ("import", turns)):
            answer = tcp.post(f"/api/conversations/x/{path}", json=said)
            assert (answer.status_code, answer.json()["exit_code"]) == (400, 2)
            assert "Over TCP a model goes by its id" in answer.json()["message"]
            assert http.post(f"/api/conversations/x/{path}", json=said).status_code == 409
        assert tcp.post("/api/programs/0/step", json={"engine": body["engine"]}).status_code == 400


@pytest.mark.parametrize("model", ["~nobody", "~nobody/x", "file:~nobody/x", "file:/" + "x" * 300, "x" * 512])
def test_what_is_no_model_is_a_sentence(shared_daemon: RunningDaemon, model: str) -> None:
    with at_socket(shared_daemon.places) as http:
        answer = http.post("/api/conversations/x/ask", json={"text": "hello", "engine": {"model": model}})
        assert answer.status_code in (400, 409)
        assert len(answer.json()["message"]) > 20
