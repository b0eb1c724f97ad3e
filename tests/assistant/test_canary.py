"""Secrets stay where they belong: what is said, called, sent as a token or set as a variable never lies in a log."""

from __future__ import annotations

import json
import logging
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from assistant.daemon.log import open_log
from tests.assistant.command import PROGRAM, run
from tests.assistant.knocking import Door, at_socket
from tests.conftest import RunningDaemon

HOLDS_TEXT = ("data/history.db", "state/kv/")
"""Where text and KV belong; nothing else may hold any of it."""
SCRIPTS = ["hello", "crash", "crash-at-once", "garbage", "fail 5", "notice", "escape", "long 20", "turns", "spec"]
PATHS = [
    *("/api/conversations/%s/turns", "/api/conversations/%s/about", "/%s", "/api/programs/%s", "/api/search?words=%s"),
    *("/api/turns/%s/conversation", "/api/plan?budget=%s", "/api/conversations?query=%s", "/health?%s"),
]
BODIES = [
    *('{"text": "hello", "engine": {"model": "SECRET"}}', '{"text": "hello", "engine": {"budget": "SECRET"}}'),
    *('{"text": "hello", "engine": {"policy": "SECRET"}}', '{"text": "hello", "sampling": {"stop": ["SECRET"]}}'),
    *('{"text": "hello", "sampling": {"seed": "SECRET"}}', '{"text": "hello", "system": "SECRET"}'),
    *('{"text": "hello", "SECRET": 1}', '{"text": "SECRET', "SECRET", '["SECRET"]'),
]


class Canaries:
    """Secrets that were handed out."""

    def __init__(self) -> None:
        self.sung: list[str] = []

    def __call__(self) -> str:
        self.sung.append(f"canary-{secrets.token_hex(8)}")
        return self.sung[-1]


@pytest.fixture
def canary() -> Canaries:
    return Canaries()


class Sent(NamedTuple):
    """A request with a secret in it."""

    method: str
    path: str
    content: str | None = None
    header: tuple[str, str] = ("Content-Type", "application/json")

    def by(self, http: httpx2.Client) -> None:
        content = None if self.content is None else self.content.encode()
        http.request(self.method, self.path, content=content, headers=dict([self.header]))


def flows(canary: Canaries) -> Iterator[Sent]:
    """Everything that a client can put a secret into, a failing way or another."""
    for script in SCRIPTS:
        yield Sent("POST", "/api/conversations/a/ask", json.dumps({"text": f"{script} {canary()}"}))
        yield Sent("POST", f"/api/conversations/{canary()}/ask", '{"text": "hello"}')
    for path in PATHS:
        yield Sent("GET", path % canary())
        yield Sent("PROPFIND", path % canary())
    for body in BODIES:
        yield Sent("POST", "/api/conversations/b/ask", body.replace("SECRET", canary()))
    for name in ("Cookie", "User-Agent", "Referer", "X-Api-Key", "Host", "Origin", "Authorization"):
        yield Sent("GET", "/health", header=(name, canary()))
    for scheme in ("Bearer", "Basic"):
        yield Sent("GET", "/health", header=("Authorization", f"{scheme} {canary()}"))


def program(http: httpx2.Client, said: str) -> None:
    """An agent run with a secret in its task, its record, the arguments of a call, its result and an approval."""
    call = json.dumps({"key": said})
    tool = {"name": "look", "description": said, "parameters": {"type": "object"}}
    begun = {"task": f"{said}\ncall look {call}\nfail 1 {said}", "tools": [tool], "about": {"key": said}}
    path = f"/api/programs/{http.post('/api/programs', json=begun).json()['id']}"
    http.post(f"{path}/step", json={})
    made = http.get(path).json()["calls"][0]
    http.post(f"{path}/calls/{made['id']}", json={"state": "done", "result": said})
    http.post("/api/approvals", json={"tool": "look", "record": {"key": said}})
    http.post(f"{path}/step", json={"text": said})
    http.patch(path, json={"state": "failed", "reason": said})


def written(home: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below `home` that is not made to hold text, with what it holds."""
    for path in home.rglob("*"):
        name = str(path.relative_to(home))
        if path.is_file() and not name.startswith(HOLDS_TEXT):
            yield name, path.read_bytes()


def test_no_secret_in_any_other_file(start_daemon: Callable[..., RunningDaemon], canary: Canaries) -> None:
    daemon = start_daemon(ASSISTANT_LISTEN="127.0.0.1:0", SOME_API_KEY=canary(), AWS_SECRET_ACCESS_KEY=canary())
    door = Door.of(daemon)
    made = list(flows(canary))
    assert len(made) >= 50
    with at_socket(daemon.places) as http, door.client() as tcp:
        for sent in made:
            sent.by(http)
            sent.by(tcp)
        program(http, canary())
    door.exchange(f"{canary()} {canary()}\r\n\r\n".encode())
    run("ask", canary())
    run("ask", "--model", canary(), "hello", code=6)
    daemon.signal(signal.SIGTERM)
    home = daemon.places.runtime.parent
    files = dict(written(home))
    assert "state/daemon.log" in files
    secrets_ = [*canary.sung, door.token]
    found = [(name, secret) for name, content in files.items() for secret in secrets_ if secret.encode() in content]
    assert found == [("state/token", door.token)]
    assert daemon.process.stderr is not None
    assert not any(secret in daemon.process.stderr.read() for secret in secrets_)


def test_the_token_is_never_an_argument(start_daemon: Callable[..., RunningDaemon]) -> None:
    door = Door.of(start_daemon(ASSISTANT_LISTEN="127.0.0.1:0"))
    assert door.ask_health() == 200
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(door.token.encode() in line for line in lines)
    assert not any(door.token in part for part in PROGRAM)


def test_an_exception_is_logged_without_its_words(home: Path, canary: Canaries) -> None:
    path, root = home / "state" / "daemon.log", logging.getLogger()
    before = root.handlers[:]
    open_log(path)
    try:
        raise ValueError(canary())
    except ValueError:
        logging.getLogger("uvicorn.error").exception("failed")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
    line = json.loads(path.read_text())
    assert line["exception"][0] == "ValueError"
    assert "test_canary.py" in line["exception"][1]
    assert canary.sung[0] not in path.read_text()
