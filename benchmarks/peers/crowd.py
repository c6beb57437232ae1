"""Be many instances of the echo in one process: `python -m peers.crowd COUNT SLOTS`; says that they are ready."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from blocks_worker import start_agent_instance
from peers.places import TIMEOUT

if TYPE_CHECKING:
    from blocks_worker import AgentInstance
    from blocks_worker.context.messages import StartTaskMessage


def echo(task: StartTaskMessage) -> str:
    """Give the text back."""
    return task.text()


def begun(number: int, count: int, slots: int) -> AgentInstance:
    """Return one instance with its share of the slots."""
    options = {
        "agent_name": "echo",
        "instance_id": f"crowd-{number}",
        "handler": echo,
        "concurrency": max(1, slots // count),
        "expected_instances": count,
    }
    return start_agent_instance(options)


def main(count: int, slots: int) -> None:
    """Serve until SIGTERM."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    instances = [begun(number, count, slots) for number in range(count)]
    for instance in instances:
        instance.wait_ready(TIMEOUT)
    print("ready", flush=True)
    over.wait()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda instance: instance.stop(), instances))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
