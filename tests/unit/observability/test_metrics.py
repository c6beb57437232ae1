"""The text that Prometheus reads."""

import sys

import pytest

from blocks_worker.errors import ConfigurationError
from blocks_worker.observability.families import Family, Sample
from blocks_worker.observability.metrics import Metrics
from blocks_worker.observability.spread import Spread

_RUNS = Family("x_runs_total", "counter", ("agent",), "start", "runs")
_SIZE = Family("x_size", "histogram", (), "start", "sizes")


def test_every_family_is_told_with_its_numbers() -> None:
    """A counter, a histogram and the process are told; a family without numbers by its name alone. [R-54]"""
    sizes = Spread((1, 2))
    sizes.note(2)
    metrics = Metrics(
        [_RUNS, _SIZE, Family("x_free", "gauge", ("agent",), "now", "free")],
        lambda: [Sample(_RUNS.name, ('a"b',), 3), Sample(_SIZE.name, (), sizes.read())],
    )
    lines = metrics.text().decode().splitlines()

    assert 'x_runs_total{agent="a\\"b"} 3.0' in lines
    assert [line for line in lines if line.startswith("x_size_bucket")] == [
        'x_size_bucket{le="1"} 0.0',
        'x_size_bucket{le="2"} 1.0',
        'x_size_bucket{le="+Inf"} 1.0',
    ]
    assert "# TYPE x_free gauge" in lines
    assert [line for line in lines if line.startswith("process_threads ")]


def test_without_the_library_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who did not install the extra learns what to install. [R-54]"""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'blocks_worker\[metrics\]'"):
        Metrics([], list).text()
