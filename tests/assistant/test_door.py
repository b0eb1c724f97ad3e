"""Who comes in over TCP: a table of headers, every route with and without the token, and the token itself."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.address import parse_address
from assistant.daemon.token import read_token, rotate, token_of
from assistant.errors import UsageError
from assistant.places import Places
from assistant.protocol import Failed
from tests.assistant.command import run, run_json
from tests.assistant.knocking import GOOD_HOST, GOOD_TOKEN, Answer, Door, at_socket, request
from tests.conftest import RunningDaemon

JSON = "Content-Type: application/json"
HOSTS = {
    "127.0.0.1:PORT": 200,
    "localhost:PORT": 200,
    "127.0.0.1": 421,
    "localhost": 421,
    "127.0.0.1:": 421,
    "127.0.0.1:80": 421,
    "127.0.0.1:1PORT": 421,
    "127.0.0.1:0PORT": 421,
    "127.0.0.1:+PORT": 421,
    "127.0.0.1:PORT:PORT": 421,
    "127.0.0.1:PORT.": 421,
    "127.0.0.1.:PORT": 421,
    "localhost.:PORT": 421,
    "LOCALHOST:PORT": 421,
    "Localhost:PORT": 421,
    "a.localhost:PORT": 421,
    "localhost.localdomain:PORT": 421,
    "0.0.0.0:PORT": 421,
    "127.1:PORT": 421,
    "127.0.0.2:PORT": 421,
    "127.000.000.001:PORT": 421,
    "2130706433:PORT": 421,
    "0x7f000001:PORT": 421,
    "017700000001:PORT": 421,
    "[::1]:PORT": 421,
    "[::]:PORT": 421,
    "[::ffff:127.0.0.1]:PORT": 421,
    "::1:PORT": 421,
    "evil.example:PORT": 421,
    "evil.example": 421,
    "127.0.0.1.nip.io:PORT": 421,
    "127-0-0-1.rebind.example:PORT": 421,
    "192.168.0.1:PORT": 421,
    "169.254.169.254": 421,
    "assistant.local:PORT": 421,
    "user@127.0.0.1:PORT": 421,
    "127.0.0.1:PORT@evil.example": 421,
    "127.0.0.1:PORT/": 421,
    "127.0.0.1:PORT, evil.example": 421,
    "127.0.0.1:PORT evil.example": 421,
    "http://127.0.0.1:PORT": 421,
    "127.0.0.1\u00b7:PORT": 421,
    "l\u00f6calhost:PORT": 421,
    "%6cocalhost:PORT": 421,
    "daemon": 421,
    "": 421,
}
ORIGINS = {
    "null": 403,
    "http://127.0.0.1:PORT": 403,
    "http://localhost:PORT": 403,
    "https://evil.example": 403,
    "HTTPS://EVIL.EXAMPLE": 403,
    "file://": 403,
    "chrome-extension://abcdef": 403,
    "": 403,
    "*": 403,
}
TOKENS = {
    "Authorization: Bearer TOKEN": 200,
    "authorization: bearer TOKEN": 200,
    "Authorization: Bearer": 401,
    "Authorization: Bearer ": 401,
    "Authorization: TOKEN": 401,
    "Authorization: Basic TOKEN": 401,
    "Authorization: BearerTOKEN": 401,
    "Authorization: Bearer  TOKEN": 401,
    "Authorization: Bearer TOKENx": 401,
    "Authorization: Bearer xTOKEN": 401,
    'Authorization: Bearer "TOKEN"': 401,
    "Authorization: Bearer TOKEN, Bearer TOKEN": 401,
    "Authorization: Bearer t\u00f6ken": 401,
    "Proxy-Authorization: Bearer TOKEN": 401,
    "Cookie: token=TOKEN": 401,
    "X-Api-Key: TOKEN": 401,
    "Authorization: Bearer TOKEN\r\nAuthorization: Bearer TOKEN": 401,
}
MALFORMED = {
    request("/health", GOOD_HOST, GOOD_HOST, GOOD_TOKEN): 400,
    request("/health", GOOD_HOST, "Host: evil.example", GOOD_TOKEN): 400,
    request("/health", "Host: evil.example", "X-Forwarded-Host: 127.0.0.1:PORT", GOOD_TOKEN): 421,
    request("/health", "Host: evil.example", "Forwarded: host=127.0.0.1:PORT", GOOD_TOKEN): 421,
    request("/health", GOOD_HOST, GOOD_TOKEN, "X-Forwarded-For: 8.8.8.8", "X-Forwarded-Proto: https"): 200,
    request("/health/", GOOD_HOST, GOOD_TOKEN): 404,
    request("/health", GOOD_TOKEN): 400,
    request("/health", GOOD_TOKEN, version="1.0"): 421,
    request("/health", GOOD_HOST, GOOD_TOKEN, version="1.0"): 200,
    request("/health", " Host: 127.0.0.1:PORT", GOOD_TOKEN): 400,
    request("/health", "Host : 127.0.0.1:PORT", GOOD_TOKEN): 400,
    request("http://127.0.0.1:PORT/health", GOOD_HOST, GOOD_TOKEN): 400,
    request("http://evil.example/health", GOOD_HOST, GOOD_TOKEN): 400,
    request("evil.example:80", GOOD_HOST, GOOD_TOKEN, method="CONNECT"): 400,
    request("*", GOOD_HOST, GOOD_TOKEN, method="OPTIONS"): 400,
    request("health", GOOD_HOST, GOOD_TOKEN): 400,
    request("//evil.example/health", GOOD_HOST, GOOD_TOKEN): 404,
    request("/health", GOOD_HOST, GOOD_TOKEN, "Content-Length: -1"): 400,
    request("/health", GOOD_HOST, GOOD_TOKEN, "Content-Length: 1\r\nContent-Length: 2"): 400,
    request("/health", GOOD_HOST, GOOD_TOKEN, "Content-Length: " + "9" * 5000): 400,
    request("/health", GOOD_HOST, GOOD_TOKEN, "Transfer-Encoding: gzip"): 400,
    request("/health", GOOD_HOST, GOOD_TOKEN, "X: " + "y" * 40_000): 431,
    request("/health?" + "y" * 40_000, GOOD_HOST, GOOD_TOKEN): 431,
    request("/health", GOOD_HOST, GOOD_TOKEN, *[f"X-{number}: {'y' * 60}" for number in range(600)]): 431,
    request("/health", GOOD_HOST, GOOD_TOKEN, "Upgrade: websocket", "Connection: Upgrade"): 200,
    request("/health", GOOD_HOST, GOOD_TOKEN, method="OPTIONS"): 405,
    request("/health", GOOD_HOST, GOOD_TOKEN, method="TRACE"): 405,
    "not http at all\r\n\r\n": 400,
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 50 + "\r\n\r\n": 400,
}
TYPES = {
    "application/json": 404,
    "application/json; charset=utf-8": 404,
    "APPLICATION/JSON": 404,
    "": 415,
    "text/plain": 415,
    "application/x-www-form-urlencoded": 415,
    "multipart/form-data; boundary=x": 415,
    "text/plain; application/json": 415,
    "application/jsonp": 415,
    "application/json\r\nContent-Type: text/plain": 415,
}
ORDER = [
    (400, ["http://evil/", "Host: evil", "Origin: null", "Content-Type: text/plain", "Content-Length: 9999999"]),
    (421, ["/health", "Host: evil", "Origin: null", "Content-Type: text/plain", "Content-Length: 9999999"]),
    (403, ["/health", GOOD_HOST, "Origin: null", "Content-Type: text/plain", "Content-Length: 9999999"]),
    (401, ["/health", GOOD_HOST, "Content-Type: text/plain", "Content-Length: 9999999"]),
    (415, ["/health", GOOD_HOST, GOOD_TOKEN, "Content-Type: text/plain", "Content-Length: 9999999"]),
    (413, ["/health", GOOD_HOST, GOOD_TOKEN, JSON, "Content-Length: 9999999"]),
    (404, ["/nothing", GOOD_HOST, GOOD_TOKEN]),
]


@pytest.fixture
def door(shared_daemon: RunningDaemon) -> Door:
    return Door.of(shared_daemon)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of loopback that somebody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield int(other.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    """A port of loopback that nobody listened at a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        return int(other.getsockname()[1])


def check_refusal(answer: Answer) -> None:
    """A refusal is a sentence, and says nothing to web pages."""
    assert set(answer.json) == set(Failed.model_fields)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert ("www-authenticate" in answer.headers) == (answer.status == 401)


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_hosts(door: Door, host: str, status: int) -> None:
    answer = door.exchange(door.filled(request("/health", f"Host: {host}", GOOD_TOKEN)))
    assert answer.status == status
    if status != 200:
        check_refusal(answer)


@pytest.mark.parametrize(("origin", "status"), ORIGINS.items())
def test_origins(door: Door, origin: str, status: int) -> None:
    answer = door.exchange(door.filled(request("/health", GOOD_HOST, GOOD_TOKEN, f"Origin: {origin}")))
    assert answer.status == status
    check_refusal(answer)


@pytest.mark.parametrize(("header", "status"), TOKENS.items())
def test_tokens(door: Door, header: str, status: int) -> None:
    answer = door.exchange(door.filled(request("/health", GOOD_HOST, header)))
    assert answer.status == status
    if status != 200:
        check_refusal(answer)


@pytest.mark.parametrize(("raw", "status"), MALFORMED.items(), ids=range(len(MALFORMED)))
def test_what_is_hardly_http(door: Door, raw: str, status: int) -> None:
    answer = door.exchange(door.filled(raw))
    assert answer.status == status
    if status != 200:
        check_refusal(answer)


@pytest.mark.parametrize(("kind", "status"), TYPES.items())
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "GET"])
def test_types(door: Door, method: str, kind: str, status: int) -> None:
    headers = [GOOD_HOST, GOOD_TOKEN, "Content-Length: 2", *([f"Content-Type: {kind}"] if kind else [])]
    answer = door.exchange(door.filled(request("/nothing", *headers, method=method, body="{}")))
    assert answer.status == status
    check_refusal(answer)


@pytest.mark.parametrize(("status", "parts"), ORDER)
def test_the_order_of_checks(door: Door, status: int, parts: list[str]) -> None:
    answer = door.exchange(door.filled(request(*parts)))
    assert answer.status == status
    check_refusal(answer)


def test_the_table_is_long_enough() -> None:
    assert len(HOSTS) + len(ORIGINS) + len(TOKENS) + len(MALFORMED) + len(TYPES) + len(ORDER) >= 60


def test_more_hosts_and_origins_by_setting(start_daemon: Callable[..., RunningDaemon]) -> None:
    door = Door.of(
        start_daemon(
            ASSISTANT_LISTEN="127.0.0.1:0",
            ASSISTANT_HOSTS='["assistant.test:80"]',
            ASSISTANT_ORIGINS='["http://page.test:3000"]',
        )
    )
    for headers, status in (
        (["Host: assistant.test:80"], 200),
        (["Host: assistant.test"], 421),
        ([GOOD_HOST, "Origin: http://page.test:3000"], 200),
        ([GOOD_HOST, "Origin: http://page.test"], 403),
    ):
        answer = door.exchange(door.filled(request("/health", *headers, GOOD_TOKEN)))
        assert answer.status == status
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_ipv6(start_daemon: Callable[..., RunningDaemon]) -> None:
    door = Door.of(start_daemon(ASSISTANT_LISTEN="[::1]:0"))
    statuses = {"[::1]:PORT": 200, "localhost:PORT": 200, "127.0.0.1:PORT": 421, "[0:0:0:0:0:0:0:1]:PORT": 421}
    for host, status in statuses.items():
        assert door.exchange(door.filled(request("/health", f"Host: {host}", GOOD_TOKEN))).status == status


def operations(door: Door) -> list[tuple[str, str]]:
    """Every method and path of the app, with something in place of its parameters."""
    with door.client() as http:
        paths: dict[str, dict[str, Any]] = http.get("/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    return [(method, path.replace("{turn}", "1").replace("{call}", "1")) for method, path in found]


def test_every_route_asks_for_the_token(door: Door) -> None:
    every = [*operations(door), ("GET", "/openapi.json"), ("GET", "/nothing")]
    assert len(every) > 30
    wrong = ("Authorization: Bearer " + "A" * 43, f"Authorization: Bearer {door.token[:-1]}", "X: y")
    for method, path in every:
        for header in wrong:
            answer = door.exchange(door.filled(request(path, GOOD_HOST, header, method=method)))
            assert (path, answer.status) == (path, 401)
        if path == "/api/shutdown":
            continue
        right = door.exchange(door.filled(request(path, GOOD_HOST, GOOD_TOKEN, method=method)))
        assert right.status in (200, 204, 404, 405, 422), (method, path, right)


def test_the_socket_asks_for_no_token_and_no_host_but_for_json_and_no_page(shared_daemon: RunningDaemon) -> None:
    with at_socket(shared_daemon.places) as http:
        assert http.get("/health", headers={"Host": "evil.example"}).status_code == 200
        assert http.get("/health", headers={"Origin": "http://evil.example"}).status_code == 403
        assert http.post("/api/purge", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_imports_are_larger_at_the_socket_only(shared_daemon: RunningDaemon, door: Door) -> None:
    turns = {"turns": [{"role": "user", "text": "x" * 1024 * 1024}] * 5}
    path = "/api/conversations/large/turns"
    with at_socket(shared_daemon.places) as http, door.client() as tcp:
        assert tcp.post(path, json=turns).status_code == 413
        assert http.post(path, json=turns).status_code == 200
        assert http.delete("/api/conversations/large?for_good=true").status_code == 200


# --- the token -------------------------------------------------------------------------------------------------------


def test_a_token_is_made_once_and_private_under_any_umask(places: Places) -> None:
    mask = os.umask(0)
    try:
        token = token_of(places.token)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(places.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(places.token.parent.stat().st_mode) == 0o700
    assert (token_of(places.token), len(token)) == (token, 43)
    assert [path.name for path in places.token.parent.iterdir()] == ["token"]


def test_a_token_that_others_may_know_is_refused(places: Places) -> None:
    token_of(places.token)
    places.token.chmod(0o640)
    with pytest.raises(UsageError, match=r"open to other users, who may know it now\. Run: .* --rotate"):
        token_of(places.token)
    assert rotate(places.token) == token_of(places.token) == read_token(places.token)
    places.token.write_text("short\n")
    with pytest.raises(UsageError, match="holds no token"):
        token_of(places.token)


def test_a_link_is_no_token(places: Places, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("A" * 43)
    elsewhere.chmod(0o600)
    token_of(places.token)
    places.token.unlink()
    places.token.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="cannot be read"):
        token_of(places.token)
    rotate(places.token)
    assert elsewhere.read_text() == "A" * 43


def test_the_command_prints_it_and_rotating_shuts_the_old_one_out(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon(ASSISTANT_LISTEN="127.0.0.1:0")
    old = Door.of(daemon)
    assert run("daemon", "token").stdout == f"{old.token}\n"
    assert run("daemon", "token", "--path").stdout == f"{daemon.places.token}\n"
    assert old.ask_health() == 200
    fresh = run_json("daemon", "token", "--rotate")["token"]
    assert fresh != old.token
    assert (old.ask_health(), Door.of(daemon).ask_health()) == (401, 200)
    daemon.places.token.unlink()
    assert old.exchange(old.filled(request("/health", GOOD_HOST, f"Authorization: Bearer {fresh}"))).status == 401


# --- where it listens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0:80", "192.168.1.2:80", "[::]:80", "8.8.8.8:53", "example.org:80", "*:80", ":80", "80", "::1:80"),
        *("127.0.0.1", "[::1]", "localhost", "", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:x", "127.0.0.1:80/"),
    ],
)
def test_nothing_but_loopback(text: str) -> None:
    with pytest.raises(ValueError, match=r"write .*127\.0\.0\.1"):
        parse_address(text)


def test_addresses() -> None:
    assert str(parse_address("localhost:8123")) == "127.0.0.1:8123"
    assert parse_address("[::1]:1").hosts == {"[::1]:1", "localhost:1"}
    assert parse_address("127.0.0.9:2").hosts == {"127.0.0.9:2", "localhost:2"}


def test_an_address_for_everyone_is_refused_with_a_sentence(home: Path) -> None:
    said = run("daemon", "start", "--listen", "0.0.0.0:8123", code=2).stderr
    assert "0.0.0.0 is not a loopback address; write 127.0.0.1:8123." in said
    assert "untrusted networks" in said


def test_the_flag_starts_a_daemon_that_listens(home: Path, free_port: int) -> None:
    address = f"127.0.0.1:{free_port}"
    try:
        run("daemon", "start")
        said = run("daemon", "start", "--listen", address, code=7).stderr
        assert f"does not listen at {address}. Run: assistant daemon restart --listen {address}" in said
        run("daemon", "restart", "--listen", address)
        assert run_json("daemon", "start", "--listen", address)["started"] is False
        assert run_json("daemon", "status")["listen"] == address
        token = run("daemon", "token").stdout.strip()
        assert Door("127.0.0.1", free_port, token, home).ask_health() == 200
    finally:
        run("daemon", "stop")


def test_the_model_of_a_port_is_fetched_where_it_is_missing(
    home: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it cannot be, the daemon runs all the same and that is said."""
    monkeypatch.delenv("ASSISTANT_MODEL")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    try:
        said = run("daemon", "start", "--listen", f"127.0.0.1:{free_port}").stderr
        assert "fetching it now" in said
        assert "its download was not reachable" in said
        assert run_json("daemon", "status")["running"] is True
    finally:
        run("daemon", "stop")


def test_a_port_that_is_taken_is_a_sentence(daemon: RunningDaemon, home: Path, taken_port: int) -> None:
    said = run("daemon", "restart", "--listen", f"127.0.0.1:{taken_port}", code=7).stderr
    assert f"cannot listen at 127.0.0.1:{taken_port}" in said
    assert "choose another port" in said
