"""What many tasks leave behind in hub, worker and client: memory, threads, descriptors."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.bench import HERE, Row, bench, settle
from support import wait_until

from blocks_worker.client.client import TaskClient
from blocks_worker.client.params import SendMessageParams

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP = 5_000
#: Tasks of one submit; half of them fail, a tenth is stopped.
BATCH = 200
MIXED = ["failing"] * (BATCH // 2) + ["waiting"] * (BATCH // 10) + ["plain"] * (BATCH * 4 // 10)
MIB = 1 << 20
#: Of RSS, after tasks of all kinds and after plain ones.
MOST_GROWTH = {"mixed": 10 * MIB, "plain": 5 * MIB}
#: Seconds of rest before a look: what is under way ends.
REST = 5.0


@dataclass(frozen=True)
class Census:
    """What one process has."""

    rss: int
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Census:
        """Look."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        return cls(
            rss=int(status["VmRSS"].split()[0]) * 1024,
            threads=int(status["Threads"]),
            files=len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names, no paths
        )

    def __str__(self) -> str:
        return f"{self.rss / MIB:.1f} MiB, {self.threads} threads, {self.files} descriptors"


def leaks(tasks: int, transport: str, _seed: int) -> Iterator[Row]:
    """Look what tasks of all kinds leave behind."""
    yield from _left_behind(tasks, transport, "mixed")


def flat(tasks: int, transport: str, _seed: int) -> Iterator[Row]:
    """Look what tasks leave behind of which each completes."""
    yield from _left_behind(tasks, transport, "plain")


def _left_behind(tasks: int, transport: str, kind: str) -> Iterator[Row]:
    """Have a client process send them all, and compare what each process has after the warm-up and at the end."""
    with bench(transport) as at:
        worker = at.worker("--concurrency", "16")
        client = at.world.start(
            *("python", str(HERE / "leaks.py"), str(tasks), kind),
            BLOCKS_CDM_URL=at.cdm_url,
            BLOCKS_API_KEY=at.key,
            PYTHONPATH=str(HERE.parent),
        )
        pids = {"hub": at.hub.process.pid, "worker": worker.process.pid, "client": client.process.pid}
        before: dict[str, Census] = {}
        for number in _stages(tasks):
            client.wait_for(f"at {number}\n", 3600)
            settle(REST)
            now = {name: Census.of(pid) for name, pid in pids.items()}
            before = before or now
            sys.stderr.write(f"{number} tasks: {', '.join(f'{name} {census}' for name, census in now.items())}\n")
            (at.world.folder / f"go-{number}").touch()
        for name, census in now.items():
            growth = census.rss - before[name].rss
            goal = f"RSS ≤ {MOST_GROWTH[kind] // MIB} MiB more, threads and descriptors +0"
            more = (census.threads - before[name].threads, census.files - before[name].files)
            value = f"{before[name]}, then {census}: {growth / MIB:+.1f} MiB, {more[0]:+d}, {more[1]:+d}"
            yield Row(f"{name} after {tasks} tasks", goal, value, growth <= MOST_GROWTH[kind] and max(more) <= 0)


def _stages(tasks: int) -> list[int]:
    """Return after how many tasks somebody looks."""
    return [WARM_UP, *range(WARM_UP + tasks // 4, WARM_UP + tasks + 1, tasks // 4)]


def send_all(tasks: int, kind: str) -> None:
    """Be the client: say where it is at each stage, and go on when it was looked at."""
    sent = 0
    with TaskClient.create("free") as client:
        for stage in _stages(tasks):
            while sent < stage:
                _send_batch(client, ["plain"] * BATCH if kind == "plain" else MIXED)
                sent += BATCH
            sys.stdout.write(f"at {stage}\n")
            sys.stdout.flush()
            wait_until(Path(f"go-{stage}").exists, 120, "the look")


def _send_batch(client: TaskClient, kinds: list[str]) -> None:
    sessions = client.send_many([SendMessageParams(agent_name="soaked", request_parts=kind) for kind in kinds])
    wanted = {"failing": "failed", "waiting": "canceled", "plain": "completed"}
    for kind, session in zip(kinds, sessions, strict=True):
        if kind == "waiting":
            session.cancel("enough")
    for kind, session in zip(kinds, sessions, strict=True):
        state = session.wait_for_terminal(120).state
        assert state == wanted[kind], json.dumps([session.task_id, kind, state])
    for session in sessions:
        wait_until(lambda session=session: session.is_closed, 30, "the last callbacks")  # type: ignore[misc]


if __name__ == "__main__":
    send_all(int(sys.argv[1]), sys.argv[2])
