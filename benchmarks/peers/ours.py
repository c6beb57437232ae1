"""The product itself: `blocks-run` with the echo that comes with it, and `TaskClient`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blocks_worker import TaskClient
from peers.loads import Workloads
from peers.places import TIMEOUT

if TYPE_CHECKING:
    from blocks_worker.task_session import TaskSession


class Client:
    """Send by `TaskClient`."""

    BATCH = "send_many"

    def __init__(self) -> None:
        self._client = TaskClient.create("free", transport=os.environ["BENCH_TRANSPORT"])

    def submit(self, text: str) -> TaskSession:
        """Ask for one task."""
        return self._client.send_message("echo", text)

    def submit_many(self, texts: list[str]) -> list[TaskSession]:
        """Ask for many in few requests."""
        return self._client.send_many([{"agent_name": "echo", "request_parts": text} for text in texts])

    def result(self, handle: TaskSession) -> str:
        """Return the text that came back, without the words which the echo puts before it."""
        with handle:
            return handle.text(TIMEOUT).removeprefix("Echoed request: ")

    def workloads(self) -> Workloads:
        """Return what can be run: more than what every product is asked for."""
        return Workloads(self, self._client)

    def close(self) -> None:
        """Close the client."""
        self._client.destroy()
