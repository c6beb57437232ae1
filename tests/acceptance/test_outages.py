"""Hub, network, disk and clock fail under real processes: nothing reported is lost, nothing runs twice."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support import wait_until
from support_clock import Clocks
from support_disk import fill, small_disk
from support_hub import running_hub

from blocks_worker.errors import BlocksError, RpcError
from blocks_worker.protocol.leases import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from acceptance.conftest import Daemon, World

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.session import TaskSession

    Open = Callable[[], TaskClient]

MB = 1024 * 1024
#: Leases that end within a test.
SHORT = Numbers(heartbeat_interval=0.4, lease_ttl=5.0, lease_margin=0.5, lease_grace=2.0)


def spooled(world: World) -> list[Path]:
    """Return the spool files that hold something."""
    return [path for path in (world.folder / "state" / "spool").glob("*.spool") if path.stat().st_size]


def settle(seconds: float) -> None:
    """Let time pass that the test is about."""
    threading.Event().wait(seconds)


# ---------------------------------------------------------------------------------------------- worker
def test_a_result_outlives_its_worker_while_the_hub_is_away(world: World, client: Open) -> None:
    """Hub killed, task finished, worker killed, both started again: its result is kept, one run. [R11] [D1] [R-12]"""
    hub = world.hub()
    worker = world.worker("handlers:hold", "--no-local", "--instance-id", "one")
    session = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")
    hub.kill()
    world.open_gate()
    wait_until(lambda: spooled(world), what="the spool")
    worker.kill()

    world.hub()
    world.worker("handlers:hold", "--no-local", "--instance-id", "one")
    event = session.wait_for_terminal(timeout=60)

    assert event.state == "completed"
    assert session.text() == "done: x"
    assert len(world.notes("start")) == 1
    wait_until(lambda: not list((world.folder / "state" / "spool").glob("*.spool")), what="the end of the file")


def test_a_stopped_worker_that_wakes_up_too_late_changes_nothing(world: World, client: Open) -> None:
    """Stopped past its lease in mid-task: another runs it again, the zombie's result is refused. [B12] [D2]"""
    with running_hub(world.folder / "state", port=world.port, numbers=SHORT):
        first = world.worker("handlers:hold", "--no-local", "--instance-id", "one")
        session = client().send_message(agent_name="hold", request_parts="x")
        wait_until(lambda: world.notes("start"), what="the first run")
        os.kill(first.process.pid, signal.SIGSTOP)
        world.worker("handlers:hold", "--no-local", "--instance-id", "two")
        wait_until(lambda: len(world.notes("start")) == 2, timeout=40, what="the second run")
        os.kill(first.process.pid, signal.SIGCONT)
        world.open_gate()
        event = session.wait_for_terminal(timeout=60)

        assert event.state == "completed"
        assert session.text() == "done: x"
        wait_until(lambda: first.text().count('"registered"') >= 2, timeout=40, what="another incarnation")
        other = client().send_message(agent_name="hold", request_parts="y")
        assert other.wait_for_terminal(timeout=60).state == "completed"
        assert first.process.poll() is None


# ---------------------------------------------------------------------------------------------- hub
def test_a_hub_away_for_longer_than_all_leases_costs_no_run(world: World, client: Open) -> None:
    """Three times the life of a lease without a hub, fifty tasks at work: all complete, none runs twice. [B14] [A5]"""
    with running_hub(world.folder / "state", port=world.port, numbers=SHORT):
        worker = world.worker("handlers:hold", "--no-local", "--concurrency", "50")
        here = client()
        sessions = [here.send_message(agent_name="hold", request_parts=str(number)) for number in range(50)]
        wait_until(lambda: len(world.notes("start")) == 50, timeout=30, what="all runs")
    settle(3 * SHORT.lease_ttl)
    with running_hub(world.folder / "state", port=world.port, numbers=SHORT):
        settle(1.0)
        world.open_gate()
        states = [session.wait_for_terminal(timeout=40).state for session in sessions]

        assert states == ["completed"] * 50
        assert len(world.notes("start")) == 50
        assert "[agent] ready" in worker.text()


def test_a_hub_killed_in_mid_commit_keeps_what_it_acknowledged(world: World, client: Open) -> None:
    """Kill -9 under load, eight times: every submit that was answered is there, and the ledger is sound. [E1] [J9]"""
    _kill_repeatedly(world, client, 8)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_hub_killed_a_thousand_times_keeps_what_it_acknowledged(world: World, client: Open) -> None:
    """The same, much more often. [E1] [J9]"""
    _kill_repeatedly(world, client, 1000)


def _kill_repeatedly(world: World, client: Open, times: int) -> None:
    dice = random.Random(7)
    hub = world.hub()
    world.worker("handlers:later").terminate()
    accepted: list[str] = []
    over = threading.Event()
    here = client()

    def submit() -> None:
        while not over.is_set():
            try:
                accepted.append(here.send_message(agent_name="later", request_parts="x").task_id)
            except BlocksError:
                over.wait(0.05)

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(times):
            before = len(accepted)
            wait_until(lambda before=before: len(accepted) > before, timeout=30, what="a submit")  # type: ignore[misc]
            settle(dice.uniform(0.0, 0.05))
            hub.kill()
            hub = world.hub()
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert len(set(accepted)) == len(accepted) >= times
    assert {here.get_task(task_id).state for task_id in accepted} == {"pending"}
    with contextlib.closing(sqlite3.connect(world.folder / "state" / "hub.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# ---------------------------------------------------------------------------------------------- disk
@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a small file system on the folder, or skip aloud."""
    with small_disk(folder, size) as missing:
        if missing:
            pytest.skip(f"cannot mount a small disk here: {missing}")
        yield folder


@contextmanager
def ended(*daemons: Daemon) -> Iterator[None]:
    """End these at the end of the block, before the disk goes from under them."""
    try:
        yield
    finally:
        for daemon in daemons:
            daemon.kill()


def refused(client: TaskClient) -> str:
    """Ask for a task; return the code of the refusal, or nothing."""
    try:
        client.send_message(agent_name="hold", request_parts="x")
    except RpcError as error:
        return f"{error.status} {error.code}"
    return ""


def test_a_full_disk_takes_nothing_new_and_finishes_what_runs(world: World, client: Open) -> None:
    """Submits get 507; cancel, heartbeat and report go on when not a byte is free; with room it recovers. [E3]"""
    with disk(world.folder / "state", 12 * MB) as state:
        hub = world.hub()
        worker = world.worker("handlers:hold", "--no-local", "--concurrency", "2")
        with ended(hub, worker):
            here = client()
            stays = here.send_message(agent_name="hold", request_parts="stays")
            goes = here.send_message(agent_name="hold", request_parts="goes")
            wait_until(lambda: len(world.notes("start")) == 2, what="the runs")
            filler = fill(state, 0)
            wait_until(lambda: refused(here) == "507 NoRoom", what="the refusal")
            waits = len([one for one in here.list_tasks().tasks if one.state == "pending"])

            goes.cancel()
            assert goes.wait_for_terminal(timeout=60).state == "canceled"
            world.open_gate()
            assert stays.wait_for_terminal(timeout=60).state == "completed"
            assert refused(here) == "507 NoRoom"

            filler.unlink()
            wait_until(lambda: refused(here) == "", what="the recovery")
            wait_until(lambda: len(world.notes("end")) >= 2 + waits, timeout=60, what="the end of the new task")
            assert hub.process.poll() is None
            assert "reserve_released" in hub.text()


def test_a_disk_whose_sync_fails_ends_the_hub(world: World, client: Open) -> None:
    """Once fsync failed nothing is acknowledged any more: the hub exits with 75, and a new one has all. [E4]"""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    hub = world.hub()
    world.worker("handlers:later").terminate()
    here = client()
    kept = here.send_message(agent_name="later", request_parts="x")
    log = world.folder / "strace"
    inject = "inject=fsync,fdatasync:error=EIO"
    with log.open("wb") as file:
        tracer = subprocess.Popen(
            ["strace", "-f", "-e", "trace=fsync,fdatasync", "-e", inject, "-p", str(hub.process.pid)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_until(lambda: b"attached" in log.read_bytes() or tracer.poll() is not None, what="strace")
        if tracer.poll() is not None:
            pytest.skip(f"strace may not attach here: {log.read_text()}")
        with pytest.raises(BlocksError):
            here.send_message(agent_name="later", request_parts="y", timeout=3.0)
        assert hub.process.wait(60) == 75
    finally:
        tracer.terminate()
        tracer.wait(10)
    assert "ledger_failed" in hub.text()

    world.hub()
    world.worker("handlers:later")
    assert kept.wait_for_terminal(timeout=60).state == "completed"


# ---------------------------------------------------------------------------------------------- clock
@pytest.fixture
def clocks(world: World) -> Clocks:
    """Return what sets the wall clock of a program of this test; skip aloud without a compiler."""
    clocks = Clocks(world.folder)
    if clocks.missing:
        pytest.skip(clocks.missing)
    return clocks


def _survives_jumps(world: World, client: Open, clocks: Clocks, held: TaskSession) -> None:
    here = client()
    for count, hours in enumerate((1, -1), start=2):
        clocks.move("jumps", hours * 3600.0)
        settle(2.5)
        new = here.send_message(agent_name="hold", request_parts="new")
        wait_until(lambda count=count: len(world.notes("start")) == count, timeout=30, what="the new run")  # type: ignore[misc]
        wait_until(lambda new=new: new.state == "running", what="the new task's state")  # type: ignore[misc]
    world.open_gate()
    assert held.wait_for_terminal(timeout=30).state == "completed"
    wait_until(lambda: len(world.notes("end")) == 3, timeout=30, what="the end of all")
    assert len(world.notes("start")) == 3, "no early end, no second run"


def test_the_hubs_clock_jumps_an_hour(world: World, client: Open, clocks: Clocks) -> None:
    """Forward and back: no lease ends early, none stays for ever, tokens are renewed in passing. [E13] [R17]"""
    hub = world.start("blocks-hub", "--port", str(world.port), **clocks.environment("jumps"))
    hub.wait_for("[hub] listening")
    world.worker("handlers:hold", "--no-local", "--concurrency", "3")
    held = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    _survives_jumps(world, client, clocks, held)


def test_the_workers_clock_jumps_an_hour(world: World, client: Open, clocks: Clocks) -> None:
    """The same at the worker, whose limits count on its steady clock. [E13] [A19] [G3]"""
    world.hub()
    world.worker("handlers:hold", "--no-local", "--concurrency", "3", **clocks.environment("jumps"))
    held = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")

    _survives_jumps(world, client, clocks, held)
