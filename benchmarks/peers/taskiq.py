"""Taskiq on Redis: a list, or a stream where a task is acknowledged once its result is saved; or on JetStream.

Results are in Redis: in JetStream's object store each read leaves a consumer behind for five seconds, and the server
has a limit of them.
"""

from __future__ import annotations

from typing import Any

from taskiq_nats import PullBasedJetStreamBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from peers.places import IS_DURABLE, RESULTS, TIMEOUT, URL


def _broker() -> Any:
    if URL.startswith("nats:"):
        # One message a request, as it does by itself: asked for more, it now and then waits for all until a timeout.
        return PullBasedJetStreamBroker(servers=URL)
    # From the stream's beginning: a task that is there before its worker is not to be lost.
    return RedisStreamBroker(url=URL, consumer_id="0") if IS_DURABLE else ListQueueBroker(url=URL)


results: Any = RedisAsyncResultBackend(redis_url=RESULTS, result_ex_time=600)
broker: Any = _broker().with_result_backend(results)


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
