"""Huey on Redis or SQLite: a consumer of threads."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey, SqliteHuey

from peers.places import IS_DURABLE, THREADS, TIMEOUT, URL

if URL.startswith("redis:"):
    huey = RedisHuey("bench", url=URL, notify_result=True)
else:
    huey = SqliteHuey("bench", filename=URL, fsync=IS_DURABLE)


@huey.task()
def echo(text: str) -> str:
    """Say back what came."""
    return text


def work() -> None:
    """Run a consumer; the delays matter where the store cannot wake it."""
    huey.create_consumer(workers=THREADS, periodic=False, initial_delay=0.002, max_delay=0.01).run()


class Client:
    """Send by calling the task."""

    BATCH = ""

    def submit(self, text: str) -> Any:
        """Ask for one task."""
        return echo(text)

    def submit_many(self, texts: list[str]) -> list[Any]:
        """Ask for many: it has no such call."""
        raise NotImplementedError(f"{len(texts)} tasks in one call")

    def result(self, handle: Any) -> str:
        """Wait for a result."""
        came: str = handle.get(blocking=True, timeout=TIMEOUT, max_delay=0.005)
        return came

    def close(self) -> None:
        """Close the connections."""
        huey.storage.close()
