"""The workloads of the product beyond a task and its result: events, bytes, many tasks in a row, open sessions."""

from __future__ import annotations

import hashlib
import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from blocks_worker import start_agent_instance
from blocks_worker.artifacts import decode_inline_artifact
from peers import blocking
from peers.handlers import wait
from peers.lines import MIB, line
from peers.places import TIMEOUT
from peers.texts import fresh, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocks_worker import TaskClient
    from blocks_worker.task_session import TaskSession

#: Tasks of one call of the workload that has many one after another.
CHUNK = 1000
#: The agent of the tasks that wait, and how many may.
_NOBODY, _BACKLOG = "nobody", 100_000


class Workloads(blocking.Workloads):
    """Run those of every blocking client, and the product's own."""

    def __init__(self, client: blocking.Blocking, product: TaskClient) -> None:
        super().__init__(client)
        self._product = product
        self._held: list[TaskSession] = []

    def warm(self, _count: int) -> dict[str, Any]:
        """Wait until the agents that tell and pour are there, and have each do a little."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return {"wrong": self.events(10)["wrong"] + self.stream(1)["wrong"]}
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def events(self, count: int) -> dict[str, Any]:
        """Read the events of one task, from the first to the terminal one."""
        start = time.perf_counter()
        with self._product.send_message("tell", str(count)) as session:
            told = list(session)
        seconds = time.perf_counter() - start
        said = [decode_inline_artifact(each.artifact_ref).decode() for each in told if each.artifact_ref]
        bad = differing([line(number) for number in range(count)], said)
        return {"seconds": seconds, "wrong": bad + (not ended_well(told, count + 1))}

    def stream(self, count: int) -> dict[str, Any]:
        """Read so many MiB of a stream; what came is compared with the digest of what was written."""
        digest, size = hashlib.sha256(), 0
        start = time.perf_counter()
        with self._product.send_message("pour", str(count), stream=True) as session:
            for data in session.wait_for_stream(timeout=TIMEOUT).open().bytes():
                digest.update(data)
                size += len(data)
            seconds = time.perf_counter() - start
            written = session.text(TIMEOUT)
        return {"seconds": seconds, "wrong": int(size != count * MIB or digest.hexdigest() != written)}

    def memory(self, count: int) -> dict[str, Any]:
        """Send by the call for many, a thousand at a time, each thousand waited for."""
        bad = 0
        for first in range(0, count, CHUNK):
            sent = fresh(min(CHUNK, count - first))
            bad += wrong(sent, [self._client.result(handle) for handle in self._client.submit_many(sent)])
        return {"wrong": bad}

    def hold(self, count: int) -> dict[str, Any]:
        """Open sessions of tasks that wait for an agent which nobody serves."""
        options = {"agent_name": _NOBODY, "handler": wait, "max_pending_backlog": _BACKLOG}
        with start_agent_instance(options) as instance:
            instance.wait_ready(TIMEOUT)
        self._held = self._product.send_many([{"agent_name": _NOBODY, "request_parts": text} for text in fresh(count)])
        return self.held(count)

    def held(self, count: int) -> dict[str, Any]:
        """Tell how many of those sessions are not open any more, or show something else than a task that waits."""
        waiting = sum(each.state == "pending" and not each.is_closed for each in self._held)
        return {"wrong": count - waiting}


def differing(sent: Sequence[str], came: Iterable[str]) -> int:
    """Return at how many places that differs which came; what is missing or too much counts."""
    return sum(one != other for one, other in zip_longest(sent, came))


def ended_well(told: Sequence[Any], last_n: int) -> bool:
    """Tell whether the last event is the end of a task that completed, behind so many events and no gap."""
    end = told[-1] if told else None
    return bool(end and end.type == "terminal" and end.state == "completed" and end.last_n == last_n and not end.gap)
