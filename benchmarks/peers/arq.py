"""Arq on Redis: short polls; it acknowledges after the run by itself."""

from __future__ import annotations

from typing import Any

from arq import Worker, create_pool
from arq.connections import RedisSettings

from peers.places import TIMEOUT, URL

settings = RedisSettings.from_dsn(URL)


async def echo(_ctx: dict[str, Any], text: str) -> str:
    """Say back what came."""
    return text


def work() -> None:
    """Run a worker."""
    Worker([echo], redis_settings=settings, max_jobs=64, poll_delay=0.005, keep_result=600).run()


class Client:
    """Send by `enqueue_job`."""

    BATCH = ""

    async def aopen(self) -> None:
        """Open the connections."""
        self._pool = await create_pool(settings)

    async def submit(self, text: str) -> Any:
        """Ask for one task."""
        return await self._pool.enqueue_job("echo", text)

    async def result(self, handle: Any) -> str:
        """Poll for a result."""
        came: str = await handle.result(timeout=TIMEOUT, poll_delay=0.002)
        return came

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
