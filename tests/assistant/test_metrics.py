"""/metrics and /api/ps: what Prometheus reads is what happened, and never what was said."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from assistant.client import Client
from assistant.places import Places
from assistant.protocol import AskRequest, Piece
from tests.assistant.talk import ask, done_of, failed_of, until, with_client
from tests.conftest import RunningDaemon

PAGE = Path(__file__).parents[2] / "docs" / "daemon.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(places: Places) -> Samples:
    """Every sample by its name and labels."""
    transport = httpx2.AsyncHTTPTransport(uds=str(places.socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://daemon") as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"assistant_{name}", frozenset(labels.items())]


def test_tokens_and_seconds_are_those_of_the_usage_records(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        usages = [done_of(await ask(client, text)).usage for text in ("hello", "again")]
        samples = await scraped(daemon.places)
        for name in ("prompt_tokens", "cached_tokens", "computed_tokens", "completion_tokens"):
            total = sum(getattr(usage, name) for usage in usages)
            assert value(samples, f"{name}_total", model="fake") == total, name
        assert value(samples, "requests_total", model="fake", outcome="stop") == 2
        for name in ("request_seconds", "ttft_seconds", "token_seconds"):
            assert value(samples, f"{name}_count", model="fake") == 2, name
        assert value(samples, "token_seconds_sum", model="fake") == 2 / 100
        assert value(samples, "resumes_total", model="fake", result="hit") == 1

    with_client(scene)


def test_outcomes_switches_evictions_and_deaths(daemon: RunningDaemon, tmp_path: Path) -> None:
    async def scene(client: Client) -> None:
        done_of(await ask(client, "switch 3"))
        failed_of(await ask(client, "fail 5 It does not fit."))
        failed_of(await ask(client, "crash"))
        failed_of(await ask(client, "lose-device"))
        running = client.ask("demo", AskRequest(text="slow"))
        await until(running, Piece)
        waiting = asyncio.create_task(ask(client, "hello", "other"))
        samples = await scraped(daemon.places)
        while not value(samples, "queue_requests"):
            samples = await scraped(daemon.places)
        await client.stop("demo")
        await waiting
        samples = await scraped(daemon.places)
        outcomes = {"stop": 2, "over budget": 1, "failed": 2, "cancelled": 1}
        for outcome, count in outcomes.items():
            assert value(samples, "requests_total", model="fake", outcome=outcome) == count, outcome
        assert value(samples, "episode_switches_total", model="fake") == 1
        assert value(samples, "evictions_total", model="fake") == 2
        assert value(samples, "worker_deaths_total", cause="crash") == 1
        assert value(samples, "worker_deaths_total", cause="device") == 1
        assert value(samples, "worker_starts_total") == 3
        assert value(samples, "queue_requests") == 0

    with_client(scene)


def test_memory_by_tier_and_part_and_nothing_after_unload(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        before = await scraped(daemon.places)
        assert value(before, "kv_bytes", tier="device") == value(before, "budget_bytes") == 0
        await ask(client, "hello")
        samples, report = await scraped(daemon.places), await client.memory()
        assert value(samples, "model_loaded", model="fake") == 1
        assert value(samples, "kv_bytes", tier="disk") == report.kv.disk.total
        assert value(samples, "memory_bytes", part="weights") == report.memory.weights
        parts = [number for (name, _), number in samples.items() if name == "assistant_memory_bytes"]
        assert sum(parts) == value(samples, "budget_bytes") == report.memory.budget
        assert value(samples, "pins") == 1
        assert value(samples, "pinned_bytes") > 0
        assert value(samples, "kv_events_total", event="rows_sealed") == 7
        await client.unload()
        after = await scraped(daemon.places)
        assert value(after, "pins") == value(after, "budget_bytes") == value(after, "kv_bytes", tier="device") == 0
        assert value(after, "completion_tokens_total", model="fake") > 0
        assert value(after, "worker_deaths_total", cause="crash") == 0

    with_client(scene)


def test_the_page_names_every_metric_and_no_other(daemon: RunningDaemon) -> None:
    async def scene(client: Client) -> None:
        await ask(client, "hello")
        samples = await scraped(daemon.places)
        served = {re.sub("_(bucket|sum|count)$", "", name) for name, _ in samples if not name.endswith("_created")}
        told = set(re.findall(r"`(assistant_\w+)`", PAGE.read_text(encoding="utf-8").partition("## Metrics")[2]))
        assert served <= told
        assert {name for name in told if "seconds" in name} <= served
        silent = {"assistant_episode_switches_total", "assistant_evictions_total", "assistant_resumes_total"}
        assert told - served <= silent, "counters with labels begin with the first event"

    with_client(scene)


def test_no_label_holds_text(start_daemon: Callable[..., RunningDaemon]) -> None:
    daemon = start_daemon()

    async def scene(client: Client) -> None:
        for text in ("the canary sings", "crash canary", "fail 1 canary", "notice canary"):
            await ask(client, text, name="canary")
        samples = await scraped(daemon.places)
        told = " ".join(f"{name} {dict(labels)}" for name, labels in samples)
        assert "canary" not in told
        assert {text for _, labels in samples for name, text in labels if name == "model"} == {"fake"}

    with_client(scene)
    assert daemon.signal(signal.SIGTERM) == 143
