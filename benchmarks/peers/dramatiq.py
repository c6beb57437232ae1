"""Dramatiq on Redis with short polls, or on RabbitMQ, which confirms each message: threads, prefetch of 256.

It acknowledges after the run by itself; results are in Redis.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

os.environ.setdefault("dramatiq_queue_prefetch", "256")

import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers.places import RESULTS, THREADS, TIMEOUT, URL


def _broker() -> tuple[Any, dict[str, int]]:
    """Return the broker, and what its worker is told: RabbitMQ wakes it, so its polls need not be short."""
    if URL.startswith("amqp:"):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        return RabbitmqBroker(url=URL, confirm_delivery=True), {}
    from dramatiq.brokers.redis import RedisBroker

    return RedisBroker(url=URL), {"worker_timeout": 2}


broker, polls = _broker()
broker.add_middleware(Results(backend=RedisBackend(url=RESULTS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def echo(text: str) -> str:
    """Say back what came."""
    return text


def work() -> None:
    """Run a worker until SIGTERM."""
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    worker = dramatiq.Worker(broker, worker_threads=THREADS, **polls)
    worker.start()
    is_over.wait()
    worker.stop()


class Client:
    """Send by `send`, many by a group."""

    BATCH = "group"

    def submit(self, text: str) -> Any:
        """Ask for one task."""
        return echo.send(text)

    def submit_many(self, texts: list[str]) -> list[Any]:
        """Ask for a group."""
        return list(dramatiq.group([echo.message(text) for text in texts]).run().children)

    def result(self, handle: Any) -> str:
        """Wait for a result."""
        came: str = handle.get_result(block=True, timeout=TIMEOUT * 1000)
        return came

    def close(self) -> None:
        """Close the connections."""
        broker.close()
