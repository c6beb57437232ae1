"""The workloads of a product whose calls are awaited: eight callers are eight coroutines."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from peers.places import THREADS
from peers.texts import fresh, wrong

#: Tasks that are asked for at the same time where a blocking client asks for one after another.
_WINDOW = 64


class Looping(Protocol):
    """The client of one product."""

    #: The name of its call for many tasks; empty: it has none.
    BATCH: str

    async def aopen(self) -> None:
        """Open the connections."""

    async def submit(self, text: str) -> Any:
        """Ask for one task; return what its result is asked of."""

    async def result(self, handle: Any) -> str:
        """Wait for the result of a task."""

    async def aclose(self) -> None:
        """Close the connections."""


class Workloads:
    """Run workloads, one at a time, on one loop."""

    def __init__(self, client: Looping) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(client.aopen())

    def close(self) -> None:
        """Close the client and its loop."""
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()

    def first(self, _count: int) -> dict[str, Any]:
        """Ask for a task and wait for its result."""
        return self.lone(1)

    def lone(self, count: int) -> dict[str, Any]:
        """Send one after another, each waited for."""
        return self._loop.run_until_complete(self._lone(fresh(count)))

    async def _lone(self, sent: list[str]) -> dict[str, Any]:
        samples, came = [], []
        for text in sent:
            start = time.perf_counter()
            came.append(await self._call(text))
            samples.append(time.perf_counter() - start)
        return {"samples": samples, "wrong": wrong(sent, came)}

    def each(self, count: int) -> dict[str, Any]:
        """Send all by the call for one task, then wait for all."""
        return self._loop.run_until_complete(self._each(fresh(count)))

    async def _each(self, sent: list[str]) -> dict[str, Any]:
        start = time.perf_counter()
        handles = []
        for first in range(0, len(sent), _WINDOW):
            handles += await asyncio.gather(*(self._client.submit(text) for text in sent[first : first + _WINDOW]))
        came = [await self._client.result(handle) for handle in handles]
        return {"seconds": time.perf_counter() - start, "wrong": wrong(sent, came)}

    def threads(self, count: int) -> dict[str, Any]:
        """Send from eight coroutines, each waiting for its own."""
        return self._loop.run_until_complete(self._callers(fresh(count)))

    async def _callers(self, sent: list[str]) -> dict[str, Any]:
        start = time.perf_counter()
        numbers = iter(range(len(sent)))
        came = [""] * len(sent)

        async def caller() -> None:
            for number in numbers:
                came[number] = await self._call(sent[number])

        await asyncio.gather(*(caller() for _ in range(THREADS)))
        return {"seconds": time.perf_counter() - start, "wrong": wrong(sent, came)}

    async def _call(self, text: str) -> str:
        return await self._client.result(await self._client.submit(text))
