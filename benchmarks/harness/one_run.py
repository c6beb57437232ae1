"""Run one entry once: store, worker and client anew, every workload, every clock."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.asking import Asked, FailedError
from harness.environments import MissingError
from harness.figures import quantile
from harness.measure import memory_of, moment
from harness.own import Own
from harness.processes import NotStartedError, running, tail
from harness.servers import SERVERS

if TYPE_CHECKING:
    from harness.entries import Entry

#: Where `harness` and `peers` lie.
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Amounts:
    """How much is sent and how long is waited."""

    warm: int = 200
    lone: int = 1000
    each: int = 3000
    many: int = 3000
    threads: int = 3000
    #: Seconds without a task.
    idle: float = 10.0
    #: Of our entries alone: events of a task, MiB of a stream, tasks until memory is looked at.
    events: int = 2000
    stream: int = 64
    stream_pubnub: int = 8
    memory: int = 20_000
    memory_pubnub: int = 5000

    def of(self, workload: str, transport: str = "") -> int:
        """Return how much of it a workload has, with this transport where that makes a difference."""
        count: int = getattr(self, f"{workload}_{transport}", getattr(self, workload))
        return count


#: To see that all works; no figures.
QUICK = Amounts(
    warm=20, lone=100, each=200, many=200, threads=200, idle=2.0,
    events=300, stream=4, stream_pubnub=2, memory=1500, memory_pubnub=500,
)  # fmt: skip
WORKLOADS = ("lone", "each", "many", "threads")


def run(entry: Entry, python: Path, amounts: Amounts) -> dict[str, Any]:
    """Return what one run of an entry said; under `error` why it did not come to its end, `missing` why not begin."""
    record: dict[str, Any] = {"entry": entry.name, "workloads": {}}
    # Not a TemporaryDirectory: what a store that was killed still writes would keep it from going.
    folder = Path(tempfile.mkdtemp(prefix="blocks-bench-"))
    folder.chmod(0o711)
    try:
        _measured(entry, python, amounts, folder, record)
    except MissingError as error:
        record["missing"] = str(error)
    except (FailedError, NotStartedError) as error:
        worker = folder / "worker.log"
        record["error"] = " ".join(f"{error} {tail(worker, 200) if worker.exists() else ''}".split())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def _measured(entry: Entry, python: Path, amounts: Amounts, folder: Path, record: dict[str, Any]) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[entry.server](folder, entry))
        durable = {"BENCH_DURABLE": "1"} if entry.is_durable else {}
        env = {**os.environ, **server.env, **durable, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        client = stack.enter_context(closing(Asked(python, entry.peer, env, folder)))
        start = time.perf_counter()
        worker = stack.enter_context(running(work(entry, python), folder / "worker.log", env=env, folder=folder))
        client.ask("first", 1)
        record["start_s"] = {"broker": server.started_in, "worker": time.perf_counter() - start}
        record["batch"] = client.batch
        pids = {"client": client.pid, "worker": worker}
        if server.pid is not None:
            pids["broker"] = server.pid
        client.ask("lone", amounts.warm)
        for name in WORKLOADS:
            if name != "many" or client.batch:
                record["workloads"][name] = workload(client, name, amounts.of(name), pids)
        record["idle"] = _idle(amounts.idle, pids)
        if entry.peer == "ours":
            own = Own(partial(workload, client), python, env, folder)
            for name, said in own.measured(pids, lambda name: amounts.of(name, entry.transport)):
                record["workloads"][name] = said


def work(entry: Entry, python: Path) -> list[str]:
    """Return the command line of an entry's worker."""
    if entry.command:
        return [str(python.parent / entry.command[0]), *entry.command[1:]]
    return [str(python), "-m", "peers.worker", entry.peer]


def workload(client: Asked, name: str, count: int, pids: dict[str, int]) -> dict[str, Any]:
    """Have a workload run; return what it took and cost."""
    before = moment(pids)
    answer = client.ask(name, count)
    spent = before.until(moment(pids))
    said = {
        "count": count,
        "seconds": answer["seconds"],
        "wrong": answer["wrong"],
        "cpu_ms": {role: cpu / count * 1000 for role, cpu in spent.cpu.items()},
        "others": spent.others,
    }
    samples = answer.get("samples")
    if samples:
        said |= {"p50_ms": quantile(samples, 0.5) * 1000, "p99_ms": quantile(samples, 0.99) * 1000}
    return said


def _idle(seconds: float, pids: dict[str, int]) -> dict[str, Any]:
    """Return what the processes cost while there is nothing to do."""
    before = moment(pids)
    time.sleep(seconds)
    spent = before.until(moment(pids))
    return {
        "cpu_percent": {role: cpu / spent.wall * 100 for role, cpu in spent.cpu.items()},
        "rss_mib": {role: memory_of(pid) for role, pid in pids.items()},
        "others": spent.others,
    }
