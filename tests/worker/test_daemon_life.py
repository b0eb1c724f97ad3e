"""Daemon and real worker together: whatever ends the worker, nothing that was read is read again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.client import Client
from assistant.protocol import AskRequest, Done, Piece, Sampling, Usage
from tests.assistant.talk import ask, done_of, until, with_client
from tests.conftest import RunningDaemon
from tests.worker.tiny_home import add_tiny, end, real_daemon

LONG = Sampling(temperature=0.0, max_tokens=1500)
SHORT = {"temperature": 0.0, "max_tokens": 8}


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[], RunningDaemon]]:
    add_tiny(home)
    started: list[RunningDaemon] = []

    def one() -> RunningDaemon:
        started.append(real_daemon())
        return started[-1]

    yield one
    for daemon in started:
        end(daemon)


def asked(text: str) -> Usage:
    return done_of(with_client(lambda client: ask(client, text, sampling=SHORT))).usage


def test_sigterm_in_mid_reply_loses_nothing_and_nothing_is_read_again(start: Callable[[], RunningDaemon]) -> None:
    daemon = start()

    async def scene(client: Client) -> Done:
        events = client.ask("demo", AskRequest(text="Tell me about rivers, at length.", sampling=LONG))
        for _ in range(20):
            await until(events, Piece)
        daemon.process.send_signal(signal.SIGTERM)
        return await until(events, Done)

    done = with_client(scene)
    assert daemon.wait() == 143
    assert done.finish == "cancelled"
    assert 20 <= done.usage.completion_tokens < 1500
    start()
    reply = with_client(lambda client: client.turns("demo"))[-1]
    assert (reply.state, reply.text) == ("interrupted", done.text)
    usage = asked("And lakes?")
    assert usage.receipt is not None
    assert (usage.receipt.source, usage.receipt.recomputed) == ("disk", 0)
    assert usage.cached_tokens == done.usage.stored_tokens


def test_after_unload_the_next_question_resumes_from_disk(start: Callable[[], RunningDaemon]) -> None:
    start()
    first = asked("Tell me about rivers.")
    assert with_client(lambda client: client.unload()).unloaded
    usage = asked("And lakes?")
    assert usage.receipt is not None
    assert (usage.receipt.source, usage.receipt.recomputed) == ("disk", 0)
    assert usage.cached_tokens == first.stored_tokens
