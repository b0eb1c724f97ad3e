"""The daemon as a process: its door, its lock, its end, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from assistant.client import Client
from assistant.daemon.door import bind
from assistant.daemon.probe import listener, lives
from assistant.errors import DaemonError, UsageError
from assistant.protocol import PROTOCOL, AskRequest, Done, Piece
from tests.assistant.talk import ask, done_of, until, with_client
from tests.conftest import FAKE_DAEMON, RunningDaemon, wait_until


@pytest.fixture
def http(shared_daemon: RunningDaemon) -> httpx2.Client:
    """A bare HTTP client at the socket: what a stranger could send."""
    transport = httpx2.HTTPTransport(uds=str(shared_daemon.places.socket))
    return httpx2.Client(transport=transport, base_url="http://daemon", timeout=20)


def test_socket_and_folders_are_private_under_any_umask(start_daemon: Callable[..., RunningDaemon]) -> None:
    mask = os.umask(0)
    try:
        places = start_daemon().places
    finally:
        os.umask(mask)
    for folder in (places.runtime, places.state, places.data):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
        for file in folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_ISSOCK(places.socket.stat().st_mode)


def test_a_second_daemon_names_the_first(daemon: RunningDaemon, start_daemon: Callable[..., RunningDaemon]) -> None:
    second = subprocess.run([sys.executable, "-P", FAKE_DAEMON], capture_output=True, text=True, timeout=20)
    assert second.returncode == 7
    assert f"pid {daemon.pid}" in second.stderr
    assert listener(daemon.places.socket) == daemon.pid


def test_kill_9_leaves_a_stale_socket_that_the_next_daemon_replaces(
    start_daemon: Callable[..., RunningDaemon],
) -> None:
    first = start_daemon()
    assert first.signal(signal.SIGKILL) == -9
    assert first.places.socket.exists()
    assert listener(first.places.socket) is None
    second = start_daemon()
    assert listener(second.places.socket) == second.pid


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_drains(start_daemon: Callable[..., RunningDaemon], number: signal.Signals, code: int) -> None:
    daemon = start_daemon()

    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text="slow"))
        await until(events, Piece)
        daemon.process.send_signal(number)
        assert (await until(events, Done)).finish == "cancelled"

    with_client(scene)
    assert daemon.wait() == code
    assert not daemon.places.socket.exists()
    start_daemon()
    reply = with_client(lambda client: client.turns("demo"))[-1]
    assert (reply.state, reply.text) == ("interrupted", "Waiting for the gate. ")


def test_a_worker_that_does_not_stop_is_ended_within_the_drain(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon(ASSISTANT_DRAIN_S="0.2")

    async def scene(client: Client) -> int:
        events = client.ask("demo", AskRequest(text="deaf"))
        await until(events, Piece)
        worker = (await client.status()).worker_pid
        daemon.process.send_signal(signal.SIGTERM)
        async for _ in events:
            pass
        assert worker is not None
        return worker

    worker = with_client(scene)
    assert daemon.wait() == 143
    wait_until(lambda: not lives(worker), "the worker is gone")
    start_daemon()
    assert with_client(lambda client: client.turns("demo"))[-1].text == "I hear nothing. "


def test_shutdown_by_route_ends_with_0(daemon: RunningDaemon) -> None:
    with_client(lambda client: client.shutdown())
    assert daemon.wait() == 0


def test_the_worker_leaves_with_its_daemon(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> int:
        await ask(client, "hello")
        worker = (await client.status()).worker_pid
        assert worker is not None
        return worker

    worker = with_client(scene)
    daemon.process.kill()
    wait_until(lambda: not lives(worker), "the worker is gone")


def test_the_daemon_imports_no_torch() -> None:
    code = "import sys, assistant.daemon.lifecycle, assistant.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "assistant.daemon.app" in loaded
    assert not {"torch", "transformers", "bitsandbytes", "sklearn", "textual"} & set(loaded)


def test_another_user_is_shown_the_door(places: object, home: Path) -> None:
    code = "import runpy, assistant.daemon.gate as gate; from assistant.daemon.probe import Peer; "
    code += "gate.peer = lambda end: Peer(1, 4242, 4242); "
    code += f"runpy.run_path({str(FAKE_DAEMON)!r}, run_name='__main__')"
    daemon = subprocess.Popen([sys.executable, "-P", "-c", code])
    path = home / "run" / "daemon.sock"
    try:
        wait_until(lambda: listener(path) == daemon.pid, "it listens")
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(20)
            end.connect(str(path))
            assert _answer(end) == b""
    finally:
        daemon.kill()
        daemon.wait()


def _answer(end: socket.socket) -> bytes:
    try:
        end.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return end.recv(100)
    except ConnectionError:
        return b""


def test_nothing_listens_on_tcp(daemon: RunningDaemon) -> None:
    inodes = {str(link.readlink()) for link in Path(f"/proc/{daemon.pid}/fd").iterdir() if link.is_symlink()}
    tables = [Path(f"/proc/{daemon.pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    sockets = {f"socket:[{line.split()[9]}]" for table in tables for line in table.splitlines()[1:]}
    assert not inodes & sockets


def test_the_log_never_holds_text(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await ask(client, "the canary sings")
        await ask(client, "crash canary")
        await client.search("canary")
        with pytest.raises(UsageError):
            await client.rename("canary", "x")

    with_client(scene)
    assert daemon.signal(signal.SIGTERM) == 143
    lines = daemon.places.log.read_text().splitlines()
    assert {"serving", "worker died", "stopped"} <= {json.loads(line)["event"] for line in lines}
    assert not any("canary" in line for line in lines)


def test_a_socket_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="longer than 107 bytes; set ASSISTANT_HOME"):
        bind(tmp_path / ("x" * 100) / "daemon.sock")


def test_plain_routes(http: httpx2.Client, shared_daemon: RunningDaemon) -> None:
    with http:
        assert http.get("/health").json() == {"ok": True}
        assert http.get("/ready").json() == {"ok": True}
        version = http.get("/version").json()
        assert (version["protocol"], version["pid"]) == (PROTOCOL, shared_daemon.pid)
        status = http.get("/api/status").json()
        assert (status["queue"], status["socket"]) == (0, str(shared_daemon.places.socket))
        assert [model["id"] for model in http.get("/api/models").json() if model["default"]] == ["fake"]


def test_ready_says_which_model_is_missing(start_daemon: Callable[..., RunningDaemon]) -> None:
    places = start_daemon(ASSISTANT_MODEL="smollm2-135m").places
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(places.socket)), base_url="http://daemon") as http:
        answer = http.get("/ready")
    assert answer.status_code == 409
    assert answer.json()["exit_code"] == 6
    assert "assistant models pull smollm2-135m" in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": "x", "more": 1}, "more"),
        ({"text": "x", "sampling": {"temperature": 2.5}}, "sampling.temperature"),
        ({"text": "x", "sampling": {"max_tokens": 0}}, "sampling.max_tokens"),
        ({"text": "x", "sampling": {"top_k": True}}, ""),
        ({"text": "x", "engine": {"quant": "int3"}}, "engine.quant"),
        ({"text": "x", "replaces": 0}, "replaces"),
        ("text", ""),
    ],
)
def test_every_field_is_bounded(http: httpx2.Client, body: object, where: str) -> None:
    with http:
        answer = http.post("/api/conversations/demo/ask", json=body)
        if answer.status_code == 200:
            assert body == {"text": "x", "sampling": {"top_k": True}}
            return
        assert answer.status_code == 422
        assert answer.json()["exit_code"] == 2
        assert where in answer.json()["message"]


@pytest.mark.parametrize("name", ["x" * 81, "a%00b", "a%0Ab", "%7F"])
def test_a_name_that_cannot_be(http: httpx2.Client, name: str) -> None:
    with http:
        assert http.get(f"/api/conversations/{name}/turns").status_code in (404, 422)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=NaN", "before=0", "before=-1", "before=1e99"])
def test_pages_are_bounded(http: httpx2.Client, query: str) -> None:
    with http:
        assert http.get(f"/api/conversations/demo/turns?{query}").status_code == 422


def test_only_json_and_not_too_much_of_it(http: httpx2.Client) -> None:
    def endless() -> object:
        yield b'{"text": "'
        for _ in range(5):
            yield b"x" * 1024 * 1024
        yield b'"}'

    with http:
        path = "/api/conversations/demo/ask"
        assert http.post(path, content=b'{"text": "x"}').status_code == 415
        assert http.post(path, data={"text": "x"}).status_code == 415
        large = http.post(path, json={"text": "x" * (5 * 1024 * 1024)})
        assert (large.status_code, large.json()["exit_code"]) == (413, 2)
        assert "at most 4 MiB" in large.json()["message"]
        headers = {"Content-Type": "application/json"}
        assert http.post(path, content=endless(), headers=headers).status_code == 413
        assert http.post("/api/conversations/demo/import", json={"turns": []}).status_code == 422
        for place in (path, "/v1/chat/completions"):
            refused = http.post(place, content=b"{nonsense", headers=headers)
            assert (refused.status_code, "The body of the request is not JSON (" in refused.text) == (422, True)
        assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("PATCH", "demo", {"title": ""}, "title"),
        ("PATCH", "demo", {"title": "x" * 201}, "title"),
        ("PATCH", "demo", {"name": "a\n"}, "name"),
        ("PATCH", "demo", {"pined": True}, "pined"),
        ("POST", "demo/choose", {}, "turn"),
        ("POST", "demo/choose", {"turn": 2**63}, "turn"),
        ("POST", "demo/fork", {"turn": -1}, "turn"),
        ("POST", "demo/restore", {"name": ""}, "name"),
        ("POST", "demo/turns", {"turns": []}, "turns"),
        ("POST", "demo/turns", {"turns": [{"role": "user", "text": "x", "created": "today"}]}, "created"),
    ],
)
def test_every_change_is_bounded(http: httpx2.Client, method: str, path: str, body: object, where: str) -> None:
    with http:
        answer = http.request(method, f"/api/conversations/{path}", json=body)
    assert answer.status_code == 422
    assert where in answer.json()["message"]


def test_unknown_things_are_404(http: httpx2.Client) -> None:
    with http:
        assert http.get("/nothing").status_code == 404
        for answer in (
            http.get("/api/conversations/nobody/turns"),
            http.delete("/api/conversations/nobody"),
            http.patch("/api/conversations/nobody", json={"name": "x"}),
            http.post("/api/conversations/nobody/stop", json={}),
            http.get("/api/conversations/nobody/about"),
            http.get("/api/conversations/nobody/siblings?turn=1"),
            http.post("/api/conversations/nobody/choose", json={"turn": 1}),
            http.post("/api/conversations/nobody/fork", json={}),
            http.delete("/api/conversations/nobody?for_good=true"),
            http.get("/api/search?words=x&conversation=nobody"),
        ):
            assert answer.status_code == 404
            assert "no conversation 'nobody'" in answer.json()["message"]


def test_a_full_lane_answers_429_with_retry_after(start_daemon: Callable[..., RunningDaemon]) -> None:
    places = start_daemon(ASSISTANT_QUEUE="1").places

    async def scene(client: Client) -> None:
        running = [client.ask(f"talk {number}", AskRequest(text="slow")) for number in range(2)]
        await until(running[0], Piece)
        await anext(running[1])
        transport = httpx2.AsyncHTTPTransport(uds=str(places.socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://daemon") as http:
            answer = await http.post("/api/conversations/x/ask", json={"text": "hello"})
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        for events in running:
            await events.aclose()

    with_client(scene)


def test_a_request_to_a_draining_daemon_is_refused(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon(ASSISTANT_DRAIN_S="1")

    async def scene(client: Client) -> None:
        events = client.ask("demo", AskRequest(text="deaf"))
        await until(events, Piece)
        await client.shutdown()
        with pytest.raises(DaemonError, match="is stopping"):
            await ask(client, "hello")

    with_client(scene)
    assert daemon.wait() == 0


def test_one_megabyte_and_odd_names_go_through(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        for name in (
            "..",
            ".",
            "a/b",
            "a%2Fb",
            "../../etc/passwd",
            "ümläut ☕",
            "?#&",
            "turns",
            "x/turns",
            "a/fork",
            " ",
        ):
            assert done_of(await ask(client, "hello", name)).conversation == name
            assert len(await client.turns(name)) == 2
            await client.rename(name, f"{name}!")
            assert (await client.fork(f"{name}!", None, f"{name}?")).turns == 2
            await client.remove(f"{name}!")
            await client.restore(f"{name}!", name)
            for gone in (name, f"{name}?"):
                await client.purge(gone)
        assert await client.conversations() == []
        text = "word " * 200_000
        await ask(client, f"turns {text}")
        assert (await client.turns("demo"))[0].text == f"turns {text}"

    with_client(scene)


def test_many_front_ends_at_once(daemon: RunningDaemon) -> None:
    async def one(number: int) -> str:
        async with await Client.connect() as client:
            return done_of(await ask(client, f"hello {number}", f"talk {number}")).text

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(8)))

    texts = asyncio.run(all_of_them())
    assert all(f"> hello {number} \n" in text for number, text in enumerate(texts))


def test_settings_decide_what_a_message_leaves_open(start_daemon: Callable[..., RunningDaemon]) -> None:
    start_daemon(ASSISTANT_MAX_TOKENS="7", ASSISTANT_TEMPERATURE="0.3")
    said = json.loads(done_of(with_client(lambda client: ask(client, "sampling"))).text)
    assert (said["max_tokens"], said["temperature"]) == (7, 0.3)
    own = with_client(lambda client: ask(client, "sampling", sampling={"max_tokens": 9}))
    assert json.loads(done_of(own).text)["max_tokens"] == 9
