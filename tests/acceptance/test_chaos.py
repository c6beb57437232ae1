"""Workers and hub are killed under load, for long and where they share one process: nothing accepted is lost."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from acceptance.storm import Figures, Plan, Storm, expected

from blocks_worker.client.tasks import ListTasksParams
from blocks_worker.protocol.tasks import EventsQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World
    from acceptance.storm import Sent

    from blocks_worker.client.client import TaskClient
    from blocks_worker.protocol.tasks import EventsAnswer

    Open = Callable[[], TaskClient]

#: Seconds by which the clocks of two processes on one machine may seem to part.
CLOCKS = 0.05


def seed() -> int:
    """Return the seed that CHAOS_SEED asks for, else a new one; the figures name it."""
    return int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_long_storm_loses_nothing(world: World, client: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """500 tasks, the hub killed twice, and a worker each second: 20 and more that held leases. [P1] [P3] [P4]"""
    _storm(world, client, Plan(seed(), tasks=500, most=55, hub_kills=(0.3, 0.7)), capsys, holder_kills=20)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_storm_over_a_shared_local_hub_loses_nothing(
    world: World, client: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three workers share a local hub, and who runs it is killed like the others: 200 tasks complete. [P1] [P3] [P4]"""
    _storm(world, client, Plan(seed(), tasks=200, most=15, workers=3, every=2.0, local=True), capsys, holder_kills=3)


def _storm(world: World, client: Open, plan: Plan, capsys: pytest.CaptureFixture[str], *, holder_kills: int) -> None:
    """Blow one storm, say what it came to, and judge it."""
    begun = time.monotonic()
    storm = Storm(world, client, plan)
    try:
        storm.blow(timeout=120 if plan.tasks < 500 else 600)
    finally:
        figures = Figures.of(storm, time.monotonic() - begun)
        with capsys.disabled():
            print(f"\n{figures}")  # noqa: T201 - the figures are what a long test is run for
    storm.settle()

    assert not storm.failures, storm.failures[:3]
    assert figures.holder_kills >= holder_kills, f"too few holders were killed to prove anything: {figures}"
    assert figures.hub_kills == len(plan.hub_kills)
    assert all(storm.in_flight), "the hub was killed while nobody submitted"
    assert _known(storm.client) == {sent.session.task_id for sent in storm.sent}
    assert figures.runs_per_task <= 1.25, figures
    _no_run_beside_another(storm)
    for sent, record in zip(storm.sent, _records(storm.client, storm.sent), strict=True):
        _one_right_end(sent, record)


def _known(client: TaskClient) -> set[str]:
    """Return the ids of all tasks that the hub knows of."""
    found: set[str] = set()
    page = client.list_tasks()
    while page.next:
        found |= {task.task_id for task in page.tasks}
        page = client.list_tasks(ListTasksParams(cursor=page.next))
    return found | {task.task_id for task in page.tasks}


def _records(client: TaskClient, sent: list[Sent]) -> list[EventsAnswer]:
    """Return what the hub's ledger has of each task."""
    answers: list[EventsAnswer] = []
    for first in range(0, len(sent), 100):
        queries = [EventsQuery(task_id=one.session.task_id) for one in sent[first : first + 100]]
        answers += [result.value() for result in client.api.events(queries)]
    return answers


def _one_right_end(sent: Sent, record: EventsAnswer) -> None:
    """The session told one terminal event, which is the ledger's, after all others of its run in order."""
    task = record.task
    stored: list[dict[str, Any]] = [msgspec.json.decode(event) for event in record.events]
    (terminal,) = [event for event in stored if event["type"] == "terminal"]
    told = [event for event in sent.events if event.type == "terminal"]
    assert task.state == "completed", task
    assert sent.session.result().artifacts[0].data == expected(sent.text)
    assert len(told) == len(sent.terminals) == 1, (task, told)
    assert (told[0].state, told[0].epoch, told[0].last_n) == (task.state, task.epoch, task.last_n)
    assert (terminal["state"], terminal["epoch"], terminal["lastN"]) == (task.state, task.epoch, task.last_n)
    assert not told[0].gap
    assert sent.events[-1] is told[0]
    epochs = [event.epoch for event in sent.events]
    assert epochs == sorted(epochs)
    durable = [event.n for event in sent.events if event.epoch == task.epoch and event.n is not None]
    assert durable == list(range(1, task.last_n + 1))


def _no_run_beside_another(storm: Storm) -> None:
    """A task runs again only once the process of the run before it is dead."""
    died = {kill.pid: kill.at for kill in storm.kills}
    last: dict[str, int] = {}
    for run in storm.runs:
        before = last.get(run.task)
        if before is not None:
            assert before in died, f"{run} began while process {before} lived"
            assert run.start > died[before] - CLOCKS, f"{run} began before process {before} died"
        last[run.task] = run.pid
