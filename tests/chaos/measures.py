"""Recovery, cancel and drain, each measured often enough for a 99th part."""

from __future__ import annotations

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from chaos.bench import Bench, Row, bench, settle
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_processes import Daemon

    from blocks_worker.client.session import TaskSession

DRAIN = 2.0


def recovery(times: int, transport: str, seed: int) -> Iterator[Row]:
    """How long a task waits for its next run when the worker that has it dies."""
    with bench(transport) as at:
        yield Row.of_times("worker killed, its name starts again", _restarts(at, times), 3.0)
    with bench(transport) as at:
        yield Row.of_times("worker killed, gone for good; the hub sees the process end", _gone(at, times), 1.5)
    with bench(transport) as at:
        yield Row.of_times("worker silent, and the hub sees nothing: the lease", _silent(at, seed), 36.0)


def _restarts(at: Bench, times: int) -> list[float]:
    worker, found = at.worker("--instance-id", "one"), []
    for _ in range(times):
        session = at.send("held")
        at.wait_for_starts(session.task_id, 1)
        worker.kill()
        killed = time.monotonic()
        worker = at.worker("--instance-id", "one", wait=False)
        found.append(at.wait_for_starts(session.task_id, 2)[1]["at"] - killed)
        assert session.wait_for_terminal(30).state == "completed"
    return found


def _gone(at: Bench, times: int) -> list[float]:
    workers, found = [at.worker(), at.worker()], []
    for _ in range(times):
        session = at.send("held")
        (start,) = at.wait_for_starts(session.task_id, 1)
        (holder,) = [worker for worker in workers if worker.process.pid == start["pid"]]
        holder.kill()
        killed = time.monotonic()
        found.append(at.wait_for_starts(session.task_id, 2)[1]["at"] - killed)
        assert session.wait_for_terminal(30).state == "completed"
        workers.remove(holder)
        workers.append(at.worker())
    return found


def _silent(at: Bench, seed: int) -> list[float]:
    """Stop five workers with four tasks each, at different moments of their heartbeats; they never wake up."""
    dice = random.Random(seed)
    stopped: dict[int, float] = {}
    workers = [at.worker("--concurrency", "4") for _ in range(5)]
    sessions = [at.send("held") for _ in range(20)]
    wait_until(lambda: len(at.starts()) == len(sessions), 30, "all runs")
    holder = {note["task"]: note["pid"] for note in at.starts()}
    at.worker("--concurrency", "20")
    for worker in workers:
        worker.process.send_signal(signal.SIGSTOP)
        stopped[worker.process.pid] = time.monotonic()
        settle(dice.uniform(0.5, 2.0))
    wait_until(lambda: len(at.starts()) == 2 * len(sessions), 60, "all runs again")
    again = {note["task"]: note["at"] for note in at.starts()}
    assert {session.wait_for_terminal(30).state for session in sessions} == {"completed"}
    return [again[task] - stopped[pid] for task, pid in holder.items()]


# ---------------------------------------------------------------------------------------------- cancel
def cancel(times: int, transport: str, seed: int) -> Iterator[Row]:
    """How long it takes from the acknowledged cancel to the handler's flag, and to the end of who hears nothing."""
    with bench(transport) as at:
        at.worker("--concurrency", "20")
        yield Row.of_times("cancel to the handler's flag", _flags(at, times, seed), 1.0)
    with bench(transport) as at:
        wires = at.wires()
        at.worker("--concurrency", "20", through=wires)
        if transport == "pubnub":
            wires[1].cut()
            settle(1.0)
            yield Row.of_times("the same, the bus is down", _flags(at, times, seed), 6.0)
    with bench(transport) as at:
        at.worker("--concurrency", "40")
        yield Row.of_times("forced: cancel to the terminal event of a handler that hears nothing", _forced(at), 31.0, 1)


def _flags(at: Bench, times: int, seed: int) -> list[float]:
    dice = random.Random(seed)
    accepted: dict[str, float] = {}
    while len(accepted) < times:
        sessions = [at.send("waiting") for _ in range(20)]
        ids = {session.task_id for session in sessions}
        wait_until(lambda ids=ids: ids <= {note["task"] for note in at.starts()}, 60, "all runs")  # type: ignore[misc]
        for session in sessions:
            settle(dice.uniform(0.0, 0.5))
            session.cancel("enough")
            accepted[session.task_id] = time.monotonic()
        wait_until(lambda ids=ids: ids <= set(at.flags()), 30, "all flags")  # type: ignore[misc]
        assert {session.wait_for_terminal(40).state for session in sessions} == {"canceled"}
    flags = at.flags()
    return [max(0.0, flags[task] - moment) for task, moment in accepted.items()]


def _forced(at: Bench) -> list[float]:
    sessions = [at.send("hanging") for _ in range(40)]
    wait_until(lambda: len(at.starts()) == len(sessions), 30, "all runs")
    ended: dict[str, float] = {}
    for session in sessions:
        session.on_terminal(lambda event: ended.setdefault(event.task_id, time.monotonic()))
    accepted = {session.task_id: _cancelled(session) for session in sessions}
    wait_until(lambda: len(ended) == len(sessions), 60, "all ends")
    assert {session.state for session in sessions} == {"canceled"}
    return [ended[task] - moment for task, moment in accepted.items()]


def _cancelled(session: TaskSession) -> float:
    session.cancel("enough")
    return time.monotonic()


# ---------------------------------------------------------------------------------------------- drain
def drain(times: int, transport: str, seed: int) -> Iterator[Row]:
    """How long workers take to end after SIGTERM, four at a time, with handlers that hang in two of three."""
    with bench(transport) as at:
        dice = random.Random(seed)
        at.worker().terminate()
        plans = [
            (number, dice.choice((0, 1, 4)), dice.choice((0, 2)), dice.uniform(0.0, 1.0)) for number in range(times)
        ]
        sessions: list[TaskSession] = []

        def one(plan: tuple[int, int, int, float]) -> tuple[float, int]:
            _, hung, waiting, late = plan
            sent = [at.send("hanging") for _ in range(hung)] + [at.send("waiting") for _ in range(waiting)]
            sessions.extend(sent)
            worker = at.worker("--concurrency", "8", "--drain-timeout", str(DRAIN))
            settle(late)
            return _ended(worker)

        with ThreadPoolExecutor(4) as pool:
            ends = list(pool.map(one, plans))
        yield Row.of_times(
            "exit after SIGTERM, handlers that hang among them", [took for took, _ in ends], DRAIN + 10, 1
        )
        codes = sorted({code for _, code in ends})
        yield Row("exit codes of these", "0", str(codes), codes == [0])
        left = _all_end(at, sessions)
        yield Row("their tasks that never ended", "0", f"{left} of {len(sessions)}", left == 0)


def _ended(worker: Daemon) -> tuple[float, int]:
    begun = time.monotonic()
    code = worker.terminate(DRAIN + 60)
    return time.monotonic() - begun, code


def _all_end(at: Bench, sessions: list[TaskSession]) -> int:
    """Open the gate, let one more worker do all that is left; return how many have no end."""
    at.world.open_gate()
    at.worker("--concurrency", "64")
    for session in sessions:
        if session.state in {"pending", "running"}:
            session.cancel("enough")
    end = time.monotonic() + 120
    while time.monotonic() < end and any(not session.is_closed for session in sessions):
        settle(0.1)
    return sum(not session.is_closed for session in sessions)
