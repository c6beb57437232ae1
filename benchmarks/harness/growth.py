"""Measure how the rate stands as something grows: finished tasks, open sessions, instances of an agent."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.asking import Asked, FailedError
from harness.entries import chosen
from harness.filling import fill, finished
from harness.measure import await_quiet
from harness.one_run import ROOT, work, workload
from harness.own import memories
from harness.processes import NotStartedError, running
from harness.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.servers import Server

ENTRY = chosen(["blocks-hublink"])[0]
#: Tasks that a ledger has before it is filled.
SEED = 10
#: Slots of all instances together: what grows is their number.
SLOTS = 64


@dataclass(frozen=True)
class Plan:
    """How far each curve goes, and how many tasks measure a point of it."""

    #: By what grows; the first of each is what the others are compared with.
    sizes: Mapping[str, Sequence[int]]
    count: int
    warm: int


PLAN = Plan({"finished": (SEED, 10_000, 1_000_000), "open": (1, 100, 10_000), "instances": (1, 8, 64)}, 2000, 200)
#: To see that all works; no figures.
QUICK = Plan({"finished": (SEED, 1000), "open": (1, 50), "instances": (1, 4)}, 200, 20)


def measured(rounds: int, plan: Plan, *, is_patient: bool) -> list[dict[str, Any]]:
    """Run all points in each round; return what they said."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="blocks-bench-", ignore_cleanup_errors=True) as folder:
        stores = filled(Path(folder), plan.sizes["finished"])
        for number in range(1, rounds + 1):
            for curve, sizes in plan.sizes.items():
                # Every other round goes back: what others do more and more of falls on both ends.
                for size in sizes if number % 2 else reversed(sizes):
                    if is_patient:
                        await_quiet()
                    record = {"round": number, "curve": curve, "size": size, **point(curve, size, plan, stores)}
                    runs.append(record)
                    tell(record)
    return runs


def filled(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    """Return a state folder with a ledger of each size, made by a hub and by copies of what it made.

    Raises:
        FailedError: there is no ledger of some size.
    """
    seed = folder / "seed"
    seed.mkdir()
    try:
        with _site(seed) as site:
            right(site.client.ask("first", 1))
            right(site.client.ask("lone", SEED - 1))
    except NotStartedError as error:
        raise FailedError(f"no ledger to begin with: {error}") from error
    stores = {}
    for size in sizes:
        stores[size] = folder / str(size)
        shutil.copytree(seed / "state", stores[size])
        fill(stores[size] / "hub.sqlite3", size)
        if finished(stores[size] / "hub.sqlite3") != size:
            raise FailedError(f"the ledger was not filled to {size}")
    os.sync()
    return stores


def point(curve: str, size: int, plan: Plan, stores: Mapping[int, Path]) -> dict[str, Any]:
    """Return what one point of a curve said; under `error` why it said nothing."""
    folder = Path(tempfile.mkdtemp(prefix="blocks-bench-"))
    try:
        if curve == "finished":
            shutil.copytree(stores[size], folder / "state")
            os.sync()
        crowd = size if curve == "instances" else 0
        with _site(folder, crowd) as site:
            return site.said(plan, size if curve == "open" else 0)
    except (FailedError, NotStartedError) as error:
        return {"error": " ".join(str(error).split())}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Site:
    """A hub, its client and a worker that run."""

    server: Server
    client: Asked
    pids: dict[str, int]

    def said(self, plan: Plan, held: int) -> dict[str, Any]:
        """Measure the call for many beside so many open sessions.

        Raises:
            FailedError: something came back wrong, or a session is not what it was: there is no figure then.
        """
        right(self.client.ask("first", 1))
        if held:
            right(self.client.ask("hold", held))
        right(self.client.ask("lone", plan.warm))
        said = right(workload(self.client, "many", plan.count, self.pids))
        if held:
            right(self.client.ask("held", held))
        return {**said, "rss_mib": memories(self.pids), "start_s": self.server.started_in}


def right(said: dict[str, Any]) -> dict[str, Any]:
    """Return what a workload said.

    Raises:
        FailedError: something of it was wrong.
    """
    if said["wrong"]:
        raise FailedError(f"{said['wrong']} results were wrong or lost")
    return said


@contextmanager
def _site(folder: Path, crowd: int = 0) -> Iterator[_Site]:
    """Run a hub on what the folder has, a client, and a worker: a crowd of instances in one process, or one."""
    python, log = Path(sys.executable), folder / "worker.log"
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[ENTRY.server](folder, ENTRY))
        assert server.pid is not None
        env = {**os.environ, **server.env, "BENCH_DURABLE": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        client = stack.enter_context(closing(Asked(python, ENTRY.peer, env, folder)))
        args = [str(python), "-m", "peers.crowd", str(crowd), str(SLOTS)] if crowd else work(ENTRY, python)
        worker = stack.enter_context(
            running(
                args,
                log,
                is_ready=lambda: not crowd or "ready" in log.read_text(errors="replace").split(),
                env=env,
                folder=folder,
            )
        )
        yield _Site(server, client, {"client": client.pid, "worker": worker, "broker": server.pid})


def tell(record: Mapping[str, Any]) -> None:
    """Print a line about a point."""
    said = record.get("error") or f"{record['count'] / record['seconds']:,.0f} tasks/s, others {record['others']:.0%}"
    print(f"round {record['round']}: {record['curve']} {record['size']:,}: {said}", file=sys.stderr)
