"""The workloads of a product whose calls block."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from peers.places import THREADS, TIMEOUT
from peers.texts import fresh, wrong


class Blocking(Protocol):
    """The client of one product."""

    #: The name of its call for many tasks; empty: it has none.
    BATCH: str

    def submit(self, text: str) -> Any:
        """Ask for one task; return what its result is asked of."""

    def submit_many(self, texts: list[str]) -> list[Any]:
        """Ask for many tasks by its call for many."""

    def result(self, handle: Any) -> str:
        """Wait for the result of a task."""

    def close(self) -> None:
        """Close the connections."""


class Workloads:
    """Run workloads, one at a time."""

    def __init__(self, client: Blocking) -> None:
        self._client = client
        self.close = client.close

    def first(self, _count: int) -> dict[str, Any]:
        """Ask for a task until somebody takes it, and wait for its result."""
        text = fresh(1)[0]
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                handle = self._client.submit(text)
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        return {"wrong": wrong([text], [self._client.result(handle)])}

    def lone(self, count: int) -> dict[str, Any]:
        """Send one after another, each waited for."""
        samples, came, sent = [], [], fresh(count)
        for text in sent:
            start = time.perf_counter()
            came.append(self._call(text))
            samples.append(time.perf_counter() - start)
        return {"samples": samples, "wrong": wrong(sent, came)}

    def each(self, count: int) -> dict[str, Any]:
        """Send all by the call for one task, then wait for all."""
        sent = fresh(count)
        start = time.perf_counter()
        handles = [self._client.submit(text) for text in sent]
        came = [self._client.result(handle) for handle in handles]
        return {"seconds": time.perf_counter() - start, "wrong": wrong(sent, came)}

    def many(self, count: int) -> dict[str, Any]:
        """Send all by the call for many, then wait for all."""
        sent = fresh(count)
        start = time.perf_counter()
        came = [self._client.result(handle) for handle in self._client.submit_many(sent)]
        return {"seconds": time.perf_counter() - start, "wrong": wrong(sent, came)}

    def threads(self, count: int) -> dict[str, Any]:
        """Send from eight threads, each waiting for its own."""
        sent = fresh(count)
        with ThreadPoolExecutor(THREADS) as pool:
            start = time.perf_counter()
            came = list(pool.map(self._call, sent))
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "wrong": wrong(sent, came)}

    def _call(self, text: str) -> str:
        return self._client.result(self._client.submit(text))
