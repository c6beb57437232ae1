"""A broadcast agent as its users run it: three instances, each asked for each task, one run at a time."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update
from support import wait_until
from support_hub import running_hub
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker import AgentInstance, TaskClient, start_agent_instance
from blocks_worker.config import state_dir
from blocks_worker.hub.store.schema import agent

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("one", "two", "three")
#: An instance in a process of its own: it says that it has begun, and never ends by itself.
VICTIM = """
from blocks_worker import start_agent_instance

def begin(task, ctx):
    print("begun", flush=True)
    ctx.wait(60)

options = {"agent_name": "all", "handler": begin, "expected_instances": 0, "instance_id": "victim"}
instance = start_agent_instance(options)
instance.wait_ready(20)
print("ready", flush=True)
instance.wait()
"""


class Crew:
    """Three instances in this process, and what they ran."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.at_work: Counter[str] = Counter()
        self.go_on = threading.Event()
        self.instances: dict[str, AgentInstance] = {}
        self._lock = threading.Lock()

    def start(self, name: str) -> AgentInstance:
        """Start one of them."""

        def do(task: Any, ctx: Any) -> str:
            with self._lock:
                self.ran.append((name, task.task_id))
                self.at_work[task.task_id] += 1
                assert self.at_work[task.task_id] == 1
            if task.text() == "wait":
                self.go_on.wait(20)
            with self._lock:
                self.at_work[task.task_id] -= 1
            return name

        options = {"agent_name": "all", "handler": do, "expected_instances": 0, "instance_id": name}
        self.instances[name] = start_agent_instance(options)
        return self.instances[name]

    def sum(self, counter: str) -> int:
        """Add up one counter of the three."""
        return sum(one.counters.get(counter, 0) for one in self.instances.values())


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Run a hub and the three."""
    crew = Crew()
    with running_hub(state_dir()), ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(crew.start(name))
        stack.callback(crew.go_on.set)
        for instance in crew.instances.values():
            instance.wait_ready(20)
        yield crew


def client_of(crew: Crew) -> TaskClient:
    """Return a client of the hub."""
    return crew.instances["one"].task_client


def test_each_task_is_offered_to_all_and_runs_once(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    """Who is second is told so, has his slot back, and logs nothing that anybody would read. [D-10] [B19]"""
    with caplog.at_level(logging.INFO, "blocks_worker"):
        for number in range(12):
            session = client_of(crew).send_message(agent_name="all", request_parts=str(number))
            assert session.wait_for_terminal(timeout=20).state == "completed"
        wait_until(lambda: len(finished(caplog)) == 12, what="the lines of the last run")
        wait_until(lambda: crew.sum("claims_refused") + crew.sum("offers_lost") >= 24, what="the offers that were lost")

    assert len(crew.ran) == len({task for _, task in crew.ran}) == 12
    assert crew.sum("offers_refused_agent_at_capacity") == 0
    assert not [record for record in caplog.records if record.getMessage() in {"lease_lost", "claim_refused"}]
    assert finished(caplog) == ["completed"] * 12
    wait_until(lambda: all(one.state == "ready" for one in crew.instances.values()), what="each slot is back")


def finished(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return how the runs ended, as the log tells."""
    return [vars(record)["state"] for record in caplog.records if record.getMessage() == "task_finished"]


def test_a_slot_does_not_wait_for_the_answer_to_a_claim_that_lost() -> None:
    """Who cannot reach the hub has his slot back with the word that the task is gone, and takes the next one. [D-10]"""
    ran: list[str] = []

    def do(task: Any) -> None:
        ran.append(task.text())

    with LedgerInProcess() as hub, WorkerAtHub(hub, do) as one, WorkerAtHub(hub, do, name="two") as two:
        for each in (one, two):
            each.ready()
        hub.write(lambda ledger: ledger.connection.execute(update(agent).values(expected_instances=0)).rowcount)
        one.login.cut.set()
        assert hub.ended(hub.submit("first")).state == "completed"

        wait_until(lambda: one.worker.counters.get("offers_lost"), what="the offer that lost")
        # It is counted before its slot is back.
        wait_until(lambda: (one.worker.state, one.worker.active_tasks) == ("ready", []), what="the slot is back")
        two.worker.stop()
        one.login.cut.clear()
        assert hub.ended(hub.submit("second"), 30).state == "completed"
        assert ran == ["first", "second"]


def test_the_busy_are_left_out_and_all_that_waits_is_done(crew: Crew) -> None:
    """With one at work the others take what comes; of more than there are slots each runs once. [D-10]"""
    sessions = [client_of(crew).send_message(agent_name="all", request_parts="wait") for _ in NAMES]
    wait_until(lambda: len(crew.ran) == 3, 20, "three at work")
    assert {name for name, _ in crew.ran} == set(NAMES)

    sessions += [client_of(crew).send_message(agent_name="all", request_parts="quick") for _ in range(5)]
    crew.go_on.set()
    assert {session.wait_for_terminal(timeout=30).state for session in sessions} == {"completed"}
    assert len(crew.ran) == len({task for _, task in crew.ran}) == 8


def test_the_run_of_a_killed_process_is_taken_by_one_of_the_others() -> None:
    """The hub sees that its process is gone and offers the task to all that are left; one of them runs it. [D-10]"""
    crew = Crew()
    with running_hub(state_dir()), ExitStack() as stack:
        command = [sys.executable, "-c", VICTIM]
        victim = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(victim.kill)
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        client = stack.enter_context(TaskClient.create("free"))
        session = client.send_message(agent_name="all", request_parts="x")
        assert victim.stdout.readline() == "begun\n"
        for name in NAMES[:2]:
            stack.enter_context(crew.start(name)).wait_ready(20)
        victim.kill()

        assert session.wait_for_terminal(timeout=60).state == "completed"
        assert [task for _, task in crew.ran] == [session.task_id]
