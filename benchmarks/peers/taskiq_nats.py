"""Taskiq on NATS JetStream: a stream that the worker pulls from; results in Redis.

Its results in JetStream's object store are none for many tasks: each read leaves a consumer behind for five seconds,
and the server has a limit of them.
"""

from __future__ import annotations

from typing import Any

from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import RedisAsyncResultBackend

from peers.places import RESULTS, TIMEOUT, URL

results: Any = RedisAsyncResultBackend(redis_url=RESULTS, result_ex_time=600)
# One message a request, as it does by itself: asked for more, it now and then waits for all of them until a timeout.
broker: Any = PullBasedJetStreamBroker(servers=URL).with_result_backend(results)


@broker.task(task_name="echo")
async def echo(text: str) -> str:
    """Say back what came."""
    return text


class Client:
    """Send by `kiq`."""

    BATCH = ""

    async def aopen(self) -> None:
        """Open the connections."""
        await broker.startup()

    async def submit(self, text: str) -> Any:
        """Ask for one task."""
        return await echo.kiq(text)

    async def result(self, handle: Any) -> str:
        """Poll for a result."""
        came: str = (await handle.wait_result(check_interval=0.002, timeout=TIMEOUT)).return_value
        return came

    async def aclose(self) -> None:
        """Close the connections."""
        await broker.shutdown()
