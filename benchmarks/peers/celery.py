"""Celery on Redis or RabbitMQ, which confirms each message: a pool of threads, results in Redis."""

from __future__ import annotations

from typing import Any

from celery import Celery, group

from peers.places import IS_DURABLE, RESULTS, THREADS, TIMEOUT, URL

app = Celery("bench", broker=URL, backend=RESULTS)
app.conf.update(
    task_acks_late=IS_DURABLE,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
if URL.startswith("amqp:"):
    app.conf.broker_transport_options = {"confirm_publish": True}


@app.task(name="echo")
def echo(text: str) -> str:
    """Say back what came."""
    return text


def work() -> None:
    """Run a worker."""
    calm = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["worker", "--pool=threads", f"--concurrency={THREADS}", *calm])


class Client:
    """Send by `delay`, many by a group."""

    BATCH = "group"

    def submit(self, text: str) -> Any:
        """Ask for one task."""
        return echo.delay(text)

    def submit_many(self, texts: list[str]) -> list[Any]:
        """Ask for a group."""
        return list(group(echo.s(text) for text in texts).apply_async().results)

    def result(self, handle: Any) -> str:
        """Wait for a result."""
        came: str = handle.get(timeout=TIMEOUT)
        return came

    def close(self) -> None:
        """Close the connections."""
        app.close()
