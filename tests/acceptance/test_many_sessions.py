"""A thousand sessions open at once in one client: what they cost, and that each ends as it should."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.events import TaskEvent

    Open = Callable[[], TaskClient]

MANY = 1000
MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """What this process has of each."""

    threads: int
    sockets: int
    memory: int


def cost() -> Cost:
    """Look at this process."""
    sockets = 0
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):  # closed just now
            sockets += str(descriptor.readlink()).startswith("socket:")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Cost(threading.active_count(), sockets, pages * os.sysconf("SC_PAGE_SIZE"))


def test_a_thousand_sessions_cost_no_thread_and_no_socket(world: World, client: Open) -> None:
    """With 1,000 open sessions a client has the threads and sockets of ten; all end once. [R-33] [R-36] [A17]"""
    world.worker("handlers:hold", "--concurrency", "16")
    empty = cost()
    consumer = client()
    terminals: list[str] = []

    def ended(event: TaskEvent) -> None:
        terminals.append(event.task_id)

    def opened(numbers: range) -> Cost:
        sent = consumer.send_many([{"agent_name": "hold", "request_parts": str(number)} for number in numbers])
        for session in sent:
            session.on_terminal(ended)
        sessions.extend(sent)
        wait_until(lambda: any(session.state == "running" for session in sessions), 30, "the first runs")
        return cost()

    sessions = []
    few = opened(range(10))
    wait_until(lambda: len(world.notes("start")) == 10, 30, "the first ten run")
    many = opened(range(10, MANY))
    assert {session.state for session in sessions} <= {"pending", "running"}
    world.open_gate()
    results = [session.text(120) for session in sessions]
    wait_until(lambda: all(session.is_closed for session in sessions), 60, "all were told")
    after = cost()

    assert results == [f"done: {number}" for number in range(MANY)]
    assert sorted(terminals) == sorted(session.task_id for session in sessions)
    # Four threads for callbacks are made once there is something to call.
    assert max(each.threads for each in (few, many, after)) - empty.threads < 12
    # A pool may open another one when two calls meet: a few, and not one for each of 990 sessions.
    assert many.threads - few.threads < 5
    assert many.sockets - few.sockets < 5
    assert max(many.memory, after.memory) - empty.memory < 200 * MIB
    consumer.destroy()
    wait_until(lambda: cost().threads <= empty.threads, 20, "its threads end")
    wait_until(lambda: cost().sockets <= empty.sockets, 20, "its sockets are closed")
