"""The Grafana dashboard against the metrics that a real hub and a real worker tell."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support_metrics import scrape

from blocks_worker.cli.health_pages import HealthPages
from blocks_worker.cli.health_port import HealthPort
from blocks_worker.observability.families import HUB, PROCESS, WORKER
from blocks_worker.testing import LocalStack

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/blocks-worker.json"

FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile"}
#: Labels that Prometheus adds itself.
ADDED = {"job", "instance", "le"}


class Query(NamedTuple):
    """What one query names."""

    metrics: set[str]
    labels: set[str]
    functions: set[str]


def parsed(text: str) -> Query:
    """Take a query apart: strings and ranges go, matchers and groups give labels, the rest are metrics or functions."""
    labels: set[str] = set()

    def taken(match: re.Match[str]) -> str:
        labels.update(re.findall(r"[a-z_]+", match[1]))
        return ""

    text = re.sub(r'"[^"]*"', "", text)
    text = re.sub(r"\[\$__rate_interval\]", "", text)
    text = re.sub(r"\{([^}]*)\}", taken, text)
    text = re.sub(r"\bby \(([^)]*)\)", taken, text)
    functions = set(re.findall(r"\b([a-z_]+) *\(", text))
    return Query(set(re.findall(r"\b[a-z_]+\b", text)) - functions, labels, functions)


def queries() -> list[str]:
    """Return every query of the dashboard, those of its variables too."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    variables = [one["definition"] for one in board["templating"]["list"] if one["type"] == "query"]
    return found + [re.sub(r"label_values\((\w+), (\w+)\)", r"\1{\2=~\"\"}", text) for text in variables]


@pytest.fixture(scope="module")
def told() -> set[str]:
    """Return the names that a hub and a worker tell."""
    with LocalStack({"work": lambda _task: "done"}) as stack:

        class Watched:
            """The one agent."""

            agent_name = "work"
            instance: Any = stack.agents["work"]

        stack.run("work", "well")
        with HealthPort(0, HealthPages([Watched()])) as port:
            return scrape(stack.url).names | scrape(port.url).names


@pytest.mark.parametrize("query", queries())
def test_a_query_names_what_there_is(query: str, told: set[str]) -> None:
    """Each metric of the dashboard is told by hub or worker, with the labels by which it is asked for. [R-54]"""
    families = {family.name: family for family in (*HUB, *WORKER, *PROCESS)}
    asked = parsed(query)

    assert asked.metrics
    assert asked.functions <= FUNCTIONS
    for name in asked.metrics:
        family = name if name in families else re.sub(r"_(bucket|count|sum)$", "", name)
        assert family in told, f"nobody tells {name}"
        assert family == name or families[family].kind == "histogram"
        assert asked.labels <= {*families[family].labels, *ADDED}, query


def test_the_dashboard_is_whole() -> None:
    """It has a dozen panels and more, each with a title and a place of its own."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]

    assert len(panels) >= 12
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_a_query_of_something_else_is_found(told: set[str]) -> None:
    """The look at the queries finds a metric that nobody tells."""
    asked = parsed('sum by (agent) (rate(blocks_hub_no_such_total{state="x"}[$__rate_interval]))')

    assert asked == Query({"blocks_hub_no_such_total"}, {"agent", "state"}, {"sum", "rate"})
    assert not asked.metrics & told
