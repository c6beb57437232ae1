"""Dramatiq on RabbitMQ: threads, prefetch of 256, each message confirmed by the broker; results in Redis."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

os.environ.setdefault("dramatiq_queue_prefetch", "256")

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers.places import RESULTS, THREADS, TIMEOUT, URL

broker = RabbitmqBroker(url=URL, confirm_delivery=True)
broker.add_middleware(Results(backend=RedisBackend(url=RESULTS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def echo(text: str) -> str:
    """Say back what came."""
    return text


def work() -> None:
    """Run a worker until SIGTERM; the broker wakes it, so its polls need not be short."""
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    worker = dramatiq.Worker(broker, worker_threads=THREADS)
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
