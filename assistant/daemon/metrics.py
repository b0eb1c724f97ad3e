"""What happened since the daemon began, for Prometheus: counted from the events that go to the clients.

Labels are the model's id and words of ours; no text of a message comes near them.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from assistant.daemon.gauges import Facts
from assistant.errors import Exit
from assistant.protocol import Done, Event, Evicted, Failed, Resumed, Switched, Usage

PREFIX = "assistant"
TTFT_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
REQUEST_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
TOKEN_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

_MODEL = ("model",)
_OUTCOMES: dict[int, str] = {
    Exit.BUDGET: "over budget",
    Exit.MODEL: "no model",
    Exit.DAEMON: "daemon",
    Exit.SIGINT: "cancelled",
}


class Metrics:
    """The counters of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.")
        self._cached = self._counter("cached_tokens", "Tokens of prompts whose KV was there.")
        self._computed = self._counter("computed_tokens", "Tokens of prompts that were read.")
        self._again = self._counter("recomputed_tokens", "Of those, tokens that had been read before.")
        self._completion = self._counter("completion_tokens", "Tokens that were written.")
        self._recalled = self._counter("recalled_tokens", "Tokens fetched because the queries needed them.")
        self._requests = self._counter("requests", "Requests that have ended.", "outcome")
        self._resumes = self._counter("resumes", "Conversations reopened; hit: nothing was read again.", "result")
        self._switches = self._counter("episode_switches", "Questions about another episode than the one before.")
        self._evictions = self._counter("evictions", "Times that entries left a working set to make room.")
        self._seconds = self._histogram("request_seconds", "From being accepted to the end.", REQUEST_S)
        self._ttft = self._histogram("ttft_seconds", "From the worker's start to the first token.", TTFT_S)
        self._token = self._histogram("token_seconds", "Between two tokens: the mean of each reply.", TOKEN_S)

    def saw(self, model: str, since: float, event: Event) -> None:
        """Count one event of a request that was accepted at `since` of `time.monotonic`."""
        match event:
            case Done():
                self._ended(model, since, event.finish)
                self._used(model, event.usage)
            case Failed():
                self._ended(model, since, _OUTCOMES.get(event.exit_code, "failed"))
            case Resumed():
                self._resumes.labels(model, "miss" if event.receipt.recomputed else "hit").inc()
            case Switched():
                self._switches.labels(model).inc()
            case Evicted():
                self._evictions.labels(model).inc(event.times)
            case _:
                pass

    def text(self, facts: Facts) -> bytes:
        """Everything in Prometheus' text format, with the gauges of this moment."""
        return generate_latest(self._registry) + generate_latest(facts)

    def _ended(self, model: str, since: float, outcome: str) -> None:
        self._requests.labels(model, outcome).inc()
        self._seconds.labels(model).observe(time.monotonic() - since)

    def _used(self, model: str, usage: Usage) -> None:
        for counter, tokens in (
            (self._prompt, usage.prompt_tokens),
            (self._cached, usage.cached_tokens),
            (self._computed, usage.computed_tokens),
            (self._again, usage.recomputed_tokens),
            (self._completion, usage.completion_tokens),
            (self._recalled, usage.recalled_tokens),
        ):
            counter.labels(model).inc(tokens)
        if usage.completion_tokens:
            self._ttft.labels(model).observe(usage.ttft_s)
        if usage.decode_tok_s:
            self._token.labels(model).observe(1 / usage.decode_tok_s)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, (*_MODEL, *labels), registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, _MODEL, registry=self._registry, buckets=buckets)
