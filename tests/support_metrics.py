"""Numbers as Prometheus would read them, from a `/metrics` page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import urllib3
from support_hub import NO_RETRY, Answered

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Scraped:
    """All that one page said."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
        self._found = list(_samples(text))

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all lines that have these labels; it has to be there."""
        known = {name, name.removesuffix("_count"), name.removesuffix("_sum")} & self.names
        assert known, f"{name} is no metric of this page"
        return sum(value for found, own, value in self._found if found == name and labels.items() <= own.items())

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the values of a metric by one of its labels."""
        rows = [(own, value) for found, own, value in self._found if found == name and labels.items() <= own.items()]
        return {own[label]: value for own, value in rows}


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match is not None, line
            yield match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])


def page(url: str, *, timeout: float = 10.0, **headers: str) -> Answered:
    """Get one page, on a connection of its own."""
    with urllib3.PoolManager(retries=NO_RETRY) as pool:
        answer = pool.request("GET", url, headers=headers, timeout=timeout)
        return Answered(answer.status, answer.data, answer.headers)


def scrape(url: str, **headers: str) -> Scraped:
    """Get the metrics of a hub or a worker."""
    answered = page(f"{url}/metrics", **headers)
    assert answered.status == 200, answered.body
    return Scraped(answered.body.decode())
