"""OpenAI's own client, on the socket of a daemon."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from openai import OpenAI

from assistant.places import Places, find_places
from tests.conftest import RunningDaemon


@pytest.fixture
def openai(shared_daemon: RunningDaemon) -> Iterator[OpenAI]:
    """A client of a daemon that other tests ask too."""
    with open_client(find_places()) as client:
        yield client


def open_client(places: Places, timeout_s: float = 20) -> OpenAI:
    """A client of the daemon of these places. It gives up at the first refusal, so that each is seen."""
    transport = httpx2.HTTPTransport(uds=str(places.socket))
    return OpenAI(
        base_url="http://assistant/v1",
        api_key="none",
        http_client=httpx2.Client(transport=transport, timeout=timeout_s),
        max_retries=0,
    )
