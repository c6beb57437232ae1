"""Metrics as Prometheus reads them: the one door of `prometheus_client`, which comes with the extra `metrics`.

Nothing is counted here: each look reads the numbers that the parts keep anyway.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import ConfigurationError
from blocks_worker.observability.families import PROCESS, Sample
from blocks_worker.observability.spread import Buckets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from blocks_worker.observability.families import Family

#: What a text of metrics is, on HTTP.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_THREADS = PROCESS[0]
_TASKS = Path("/proc/self/task")


class Metrics:
    """Tell the numbers of one part of a process, and of the process, from a registry of its own.

    Args:
        families: all that this part has; each is told, if only with its name and type.
        read: looks at the numbers, at each request anew.
    """

    def __init__(self, families: Sequence[Family], read: Callable[[], Iterable[Sample]]) -> None:
        self._families = families
        self._read = read
        self._lock = threading.Lock()
        self._registry: CollectorRegistry | None = None

    def text(self) -> bytes:
        """Return all of it; callers come one after another.

        Raises:
            ConfigurationError: the library is not installed; the text says how to.
        """
        with self._lock:
            if self._registry is None:
                self._registry = self._made()
            from prometheus_client import generate_latest

            return generate_latest(self._registry)

    def _made(self) -> CollectorRegistry:
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector
        except ImportError as error:
            raise ConfigurationError(
                "metrics need the library prometheus-client: pip install 'blocks_worker[metrics]'"
            ) from error
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Reading(self._families, self._read))
        ProcessCollector(registry=registry)
        return registry


class _Reading:
    """Be a collector that looks when it is asked."""

    def __init__(self, families: Sequence[Family], read: Callable[[], Iterable[Sample]]) -> None:
        self._families = families
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Return nothing: to look only to learn the names would be in vain."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each family with its numbers."""
        found: dict[str, list[Sample]] = {}
        for sample in self._read():
            found.setdefault(sample.family, []).append(sample)
        for family in self._families:
            yield _metric(family, found.get(family.name, []))
        yield _metric(_THREADS, [Sample(_THREADS.name, (), _threads())])


def _metric(family: Family, samples: Iterable[Sample]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if family.kind == "histogram":
        spread = HistogramMetricFamily(family.name, family.says, labels=family.labels)
        for sample in samples:
            if isinstance(sample.value, Buckets):
                _add_buckets(spread, sample.labels, sample.value)
        return spread
    plain: Any = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: CounterMetricFamily | GaugeMetricFamily = plain(family.name, family.says, labels=family.labels)
    for sample in samples:
        if not isinstance(sample.value, Buckets):
            metric.add_metric(sample.labels, sample.value)
    return metric


def _add_buckets(metric: Any, labels: Sequence[str], value: Buckets) -> None:
    bounds = [f"{bound:g}" for bound in value.bounds]
    buckets = [*zip(bounds, value.up_to, strict=True), ("+Inf", value.total)]
    metric.add_metric(labels, buckets=buckets, sum_value=value.sum)


def _threads() -> int:
    try:
        return sum(1 for _ in _TASKS.iterdir())
    except OSError:  # no such folder outside Linux: those that Python knows
        return threading.active_count()
