"""What is so at this moment, for Prometheus: worked out from the status that others keep, when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from assistant.daemon.pins import PinView
from assistant.reports import KvStatus, MemorySplit

_SPLIT = ("weights", "kv", "staging", "activations", "ram", "process")


@dataclass(frozen=True, slots=True)
class Facts(Collector):
    """The state of daemon and worker; `collect` is what Prometheus asks for."""

    queue: int
    uptime_s: float
    model: str | None
    starts: int
    deaths: Mapping[str, int]
    memory: MemorySplit
    kv: KvStatus
    pins: Sequence[PinView]

    def collect(self) -> Iterator[Metric]:
        """Every family, also of what is 0."""
        yield GaugeMetricFamily("assistant_uptime_seconds", "Since the daemon began.", self.uptime_s)
        yield GaugeMetricFamily("assistant_queue_requests", "Requests that wait.", self.queue)
        yield _by("assistant_model_loaded", "The model that is loaded.", "model", {self.model: 1} if self.model else {})
        yield CounterMetricFamily("assistant_worker_starts", "Workers that were started.", self.starts)
        yield self._deaths()
        yield GaugeMetricFamily("assistant_budget_bytes", "The budget; 0 while no model is loaded.", self.memory.budget)
        yield _by("assistant_memory_bytes", "How the budget is divided.", "part", self._split())
        yield _by("assistant_kv_bytes", "Where KV lies.", "tier", self._tiers())
        yield GaugeMetricFamily("assistant_pins", "Working sets that are kept on the device.", len(self._live()))
        held = sum(pin.bytes for pin in self._live())
        yield GaugeMetricFamily("assistant_pinned_bytes", "What they hold.", held)
        yield _by("assistant_kv_events", "Since the model was loaded.", "event", self._counters(), CounterMetricFamily)

    def _deaths(self) -> Metric:
        deaths = {cause: self.deaths.get(cause, 0) for cause in ("device", "crash")}
        text = "Workers that ended without being asked to."
        return _by("assistant_worker_deaths", text, "cause", deaths, CounterMetricFamily)

    def _split(self) -> dict[str, int]:
        split = {name: int(getattr(self.memory, name)) for name in _SPLIT}
        return split | {"free": max(0, self.memory.budget - sum(split.values()))}

    def _tiers(self) -> dict[str, int]:
        """Bytes of KV alone: on the device without weights, on disk with the index."""
        return {
            "device": self.kv.device.parts.get("working sets", 0),
            "ram": self.kv.ram.parts.get("rows", 0),
            "disk": self.kv.disk.total,
        }

    def _counters(self) -> dict[str, int]:
        """Those with plain names; the others end in a reason."""
        return {name: count for name, count in self.kv.counters.items() if name.isidentifier()}

    def _live(self) -> list[PinView]:
        return [pin for pin in self.pins if pin.state != "expired"]


def _by(
    name: str,
    text: str,
    label: str,
    values: Mapping[str, int],
    family: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    found = family(name, text, labels=[label])
    for value, number in values.items():
        found.add_metric([value], number)
    return found
