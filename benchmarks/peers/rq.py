"""RQ on Redis: its worker that does not fork a task, one task at a time."""

from __future__ import annotations

from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker

from peers.echoing import echo
from peers.places import TIMEOUT, URL

connection = Redis.from_url(URL)
queue = Queue(connection=connection)


def work() -> None:
    """Run a worker."""
    SimpleWorker([queue], connection=connection).work(logging_level="ERROR")


class Client:
    """Send by `enqueue`, many by `enqueue_many`."""

    BATCH = "enqueue_many"

    def submit(self, text: str) -> Any:
        """Ask for one task."""
        return queue.enqueue(echo, text)

    def submit_many(self, texts: list[str]) -> list[Any]:
        """Ask for many in one pipeline."""
        return list(queue.enqueue_many([Queue.prepare_data(echo, (text,)) for text in texts]))

    def result(self, handle: Any) -> str:
        """Wait for a result."""
        latest = handle.latest_result(timeout=TIMEOUT)
        came: str = latest.return_value
        return came

    def close(self) -> None:
        """Close the connections."""
        connection.close()
