"""Clients that are slow, many, or do not listen: what they cost everybody else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.assistant.knocking import GOOD_HOST, GOOD_TOKEN, Door, at_socket, read_answer, request
from tests.conftest import RunningDaemon, wait_until

JSON = "Content-Type: application/json"
CROWD = 100


@pytest.fixture
def start_door(start_daemon: Callable[..., RunningDaemon]) -> Callable[..., tuple[RunningDaemon, Door]]:
    """Start a daemon with these limits, that listens."""

    def start(**limits: Any) -> tuple[RunningDaemon, Door]:
        daemon = start_daemon(ASSISTANT_LISTEN="127.0.0.1:0", DAEMON_LIMITS=json.dumps(limits))
        return daemon, Door.of(daemon)

    return start


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Connections that are closed at the end."""
    with ExitStack() as stack:
        yield stack


def ask(door: Door, name: str, text: str) -> bytes:
    """A question as bytes."""
    body = json.dumps({"text": text})
    headers = (GOOD_HOST, GOOD_TOKEN, JSON, f"Content-Length: {len(body)}")
    return door.filled(request(f"/api/conversations/{name}/ask", *headers, method="POST", body=body))


def state_of(daemon: RunningDaemon, name: str) -> str | None:
    """Of the last turn of a conversation, once it exists."""
    with at_socket(daemon.places) as http:
        answer = http.get(f"/api/conversations/{name}/turns")
        return str(answer.json()[-1]["state"]) if answer.status_code == 200 else None


def is_closed(end: socket.socket) -> bool:
    """Wait until the daemon has closed a connection."""
    end.settimeout(20)
    try:
        while end.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def drip(end: socket.socket, content: bytes) -> None:
    """Send byte by byte, as long as the daemon listens."""
    end.settimeout(0.001)
    for byte in content:
        end.sendall(bytes([byte]))
        with suppress(TimeoutError):
            end.recv(4096)


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99) - 1]


@pytest.mark.parametrize("begun", ["", "GET /hea", "GET /health HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX: "])
def test_a_hundred_slow_connections_do_not_keep_a_good_client_waiting(
    start_door: Callable[..., tuple[RunningDaemon, Door]], crowd: ExitStack, begun: str
) -> None:
    daemon, door = start_door()
    for _ in range(CROWD):
        end = crowd.enter_context(door.connect())
        end.sendall(door.filled(begun))
    took = []
    with at_socket(daemon.places) as http:
        for number in range(200):
            start = time.monotonic()
            if number % 2:
                assert door.ask_health() == 200
            else:
                assert http.get("/health", headers={"Connection": "close"}).status_code == 200
            took.append(time.monotonic() - start)
    assert p99(took) <= 1.0


def test_strangers_at_tcp_take_no_place_at_the_socket(
    start_door: Callable[..., tuple[RunningDaemon, Door]], crowd: ExitStack
) -> None:
    daemon, door = start_door(connections=2)
    for number in range(2):
        end = crowd.enter_context(door.connect())
        end.sendall(ask(door, f"talk{number}", "slow"))
        assert end.recv(1)
    refused = door.exchange(door.filled(request("/health", GOOD_HOST, GOOD_TOKEN)))
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert "Too many connections" in refused.json["message"]
    with at_socket(daemon.places) as http:
        assert http.get("/health").status_code == 200
        assert http.post("/api/conversations/talk0/stop").json() == {"stopped": True}
    wait_until(lambda: door.ask_health() == 200, "a place is free again")


def test_the_one_that_waited_longest_makes_room(
    start_door: Callable[..., tuple[RunningDaemon, Door]], crowd: ExitStack
) -> None:
    _, door = start_door(connections=3)
    ends = [crowd.enter_context(door.connect()) for _ in range(3)]
    for end in ends:
        end.sendall(door.filled(request("/health", GOOD_HOST, GOOD_TOKEN)))
        assert read_answer(end).status == 200
    ends[0].sendall(door.filled(request("/health", GOOD_HOST, GOOD_TOKEN)))
    assert read_answer(ends[0]).status == 200
    assert door.ask_health() == 200
    assert is_closed(ends[1])
    for end in (ends[0], ends[2]):
        end.sendall(door.filled(request("/health", GOOD_HOST, GOOD_TOKEN)))
        assert read_answer(end).status == 200


BODY = (GOOD_HOST, GOOD_TOKEN, JSON, "Content-Length: 100")


@pytest.mark.parametrize(
    "begun",
    [
        "",
        "GET /health HTTP/1.1\r\nHost",
        request("/api/search", *BODY, method="POST", body='{"te'),
        request("/api/conversations/x/ask", *BODY, method="POST", body='{"te'),
    ],
)
def test_a_request_has_to_be_complete_in_time(
    start_door: Callable[..., tuple[RunningDaemon, Door]], begun: str
) -> None:
    _, door = start_door(request_s=0.3)
    with door.connect() as end:
        end.sendall(door.filled(begun))
        answer = read_answer(end)
        assert answer.status in (405, 408)
        assert is_closed(end)
    assert door.ask_health() == 200


def test_a_header_that_comes_byte_by_byte_gets_no_more_time(
    start_door: Callable[..., tuple[RunningDaemon, Door]],
) -> None:
    _, door = start_door(request_s=0.5)
    with door.connect() as end:
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            drip(end, door.filled(request("/health", GOOD_HOST, "X: " + "y" * 30_000)))
        assert time.monotonic() - start < 10


def test_the_second_request_of_a_connection_has_a_time_of_its_own(
    start_door: Callable[..., tuple[RunningDaemon, Door]],
) -> None:
    _, door = start_door(request_s=0.3)
    with door.connect() as end:
        end.sendall(door.filled(request("/health", GOOD_HOST, GOOD_TOKEN)) + b"GET /hea")
        assert read_answer(end).status == 200
        assert read_answer(end).status == 408


def test_a_header_without_an_end(start_door: Callable[..., tuple[RunningDaemon, Door]]) -> None:
    _, door = start_door()
    with door.connect() as end:
        end.sendall(door.filled("GET /health HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX: " + "y" * 40_000))
        answer = read_answer(end)
    assert (answer.status, answer.json["message"]) == (431, "The header of a request may hold at most 32 KiB.")


@pytest.mark.parametrize("way", ["tcp", "socket"])
def test_who_does_not_read_is_cut_off_and_the_reply_is_kept(
    start_door: Callable[..., tuple[RunningDaemon, Door]], way: str
) -> None:
    daemon, door = start_door(unread_s=0.3)
    end = socket.socket(socket.AF_INET if way == "tcp" else socket.AF_UNIX)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with end:
        end.connect((door.host, door.port) if way == "tcp" else str(door.socket))
        end.sendall(ask(door, "deaf", "long 100000000"))
        wait_until(lambda: state_of(daemon, "deaf") == "interrupted", "the reply is interrupted")
        assert is_closed(end)
    with at_socket(daemon.places) as http:
        reply = http.get("/api/conversations/deaf/turns").json()[-1]
        assert reply["text"].startswith("word0 word1 ")
        assert http.get("/api/status").json()["queue"] == 0


def test_who_reads_gets_everything_through_a_small_buffer(
    start_door: Callable[..., tuple[RunningDaemon, Door]],
) -> None:
    _, door = start_door(unread_s=5.0)
    with door.connect() as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        end.sendall(ask(door, "small", "long 5000"))
        answer = read_answer(end)
    assert answer.body.count(b"event: piece") == 5000
    assert b"event: done" in answer.body


def test_nobody_listens_who_was_not_told_to(daemon: RunningDaemon) -> None:
    with at_socket(daemon.places) as http:
        assert http.get("/api/status").json()["listen"] is None
    assert not daemon.places.token.exists()
