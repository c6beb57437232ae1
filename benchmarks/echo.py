"""Measure the echo: client, hub and worker in processes of their own, on a store of their own.

Prints latency of tasks sent one after another, the rate of many sent by a few threads, and the CPU time
that each process spent on a task. Wall times on a shared machine move; CPU times move less.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.client.client import TaskClient

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
WARM_UP = 100


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its dead threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(args: list[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of ours until the end of the block; it is ready once it printed `ready`."""
    with log.open("wb") as file, subprocess.Popen(args, stdout=file, stderr=file) as process:
        try:
            await_text(log, ready, process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def await_text(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the log holds the text."""
    deadline = time.monotonic() + 60
    while text not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args!r} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


def one_by_one(client: TaskClient, count: int) -> list[float]:
    """Return the seconds from submit to terminal of each of `count` tasks, one at a time."""
    taken = []
    for number in range(count):
        start = time.perf_counter()
        check(client, f"Hello {number}")
        taken.append(time.perf_counter() - start)
    return taken


def check(client: TaskClient, text: str) -> None:
    """Send one task, wait for its end and compare what came back."""
    with client.send_message(agent_name="echo", request_parts=text) as session:
        session.wait_for_terminal(timeout=60)
        assert session.text() == f"Echoed request: {text}", session.text()


def many(client: TaskClient, count: int, threads: int) -> float:
    """Return the seconds that `threads` threads need for `count` tasks, each waiting for its own."""
    numbers = iter(range(count))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                check(client, f"Hello {number}")
        except BaseException as error:  # noqa: BLE001 - told after the join
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - start


def measure(client: TaskClient, pids: dict[str, int], sequential: int, total: int, threads: int) -> None:
    """Run both workloads and print their rows."""
    one_by_one(client, WARM_UP)
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    taken = sorted(one_by_one(client, sequential))
    lone = {name: (cpu_seconds(pid) - before[name]) / sequential * 1000 for name, pid in pids.items()}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    seconds = many(client, total, threads)
    bulk = {name: (cpu_seconds(pid) - before[name]) / total * 1000 for name, pid in pids.items()}
    p50, p99 = statistics.median(taken) * 1000, taken[int(len(taken) * 0.99) - 1] * 1000
    print(f"{sequential} echo tasks one by one: submit to terminal p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"  CPU ms a task: {row(lone)}")
    print(f"{total} echo tasks from {threads} threads: {total / seconds:.0f} tasks/s")
    print(f"  CPU ms a task: {row(bulk)}")


def row(costs: dict[str, float]) -> str:
    """Return the costs of the processes in one line."""
    return ", ".join(f"{name} {cost:.2f}" for name, cost in costs.items()) + f", all {sum(costs.values()):.2f}"


def main() -> None:
    """Start hub and worker, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequential", type=int, default=300)
    parser.add_argument("--total", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=32)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port = free_port()
        os.environ.update(
            BLOCKS_STATE_DIR=str(Path(folder) / "state"),
            BLOCKS_CDM_URL=f"http://127.0.0.1:{port}/api/v1/cdm",
            LOG_LEVEL="warn",
        )
        hub_args = [str(BIN / "blocks-hub"), "--port", str(port)]
        hub = stack.enter_context(running(hub_args, Path(folder) / "hub.log", "[hub] listening"))
        worker_args = [str(BIN / "blocks-run"), "--handler", "echo", "--no-local", "--concurrency", str(chosen.threads)]
        worker = stack.enter_context(running(worker_args, Path(folder) / "worker.log", "[agent] ready"))
        client = stack.enter_context(TaskClient.create("free"))
        print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, store FULL")
        pids = {"client": os.getpid(), "hub": hub.pid, "worker": worker.pid}
        measure(client, pids, chosen.sequential, chosen.total, chosen.threads)


if __name__ == "__main__":
    main()
