"""Sessions that joined a task later are told of it on their own channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ledger_world import ANN, BOB, World

from blocks_worker.hub.store.ledger import MOST_WATCHERS
from blocks_worker.hub.task_service import Consumer
from blocks_worker.protocol.tasks import EventsQuery, SubmitTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.protocol.tasks import BillingMode

LATE = Consumer(owner="ann", session_channel="session.late")


@pytest.fixture
def world() -> Iterator[World]:
    """Give a hub with one agent."""
    with World() as made:
        made.add_agent()
        yield made


def submitted(world: World) -> str:
    """Submit a task as Ann and return its id."""
    request = SubmitTask(agent_name="echo", task_id="t-1")
    assert world.do(lambda ledger: world.tasks.submit(ledger, ANN, request)).status == 201
    return "t-1"


def listen(world: World, who: Consumer, task_id: str, mode: BillingMode = "free") -> int:
    """Register a session; return the status."""
    query = EventsQuery(task_id=task_id, listen=mode)
    return world.do(lambda ledger: world.tasks.listen(ledger, who, query)).status


def cancel(world: World, task_id: str) -> list[tuple[str, str]]:
    """End a task that waits; return where that was said, and with which keys."""
    world.said.clear()
    world.do(lambda ledger: world.tasks.turns.cancel(ledger, ledger.task(task_id), None, terminated=False))  # type: ignore[arg-type]
    return [(said.billing_mode, said.channel) for said in world.said if said.seq is not None]


OWN = [("free", "session.ann"), ("free", "u.ann.t-1")]


def test_whoever_joined_is_told(world: World) -> None:
    """Events go to the channel of each session once, with the keys that it listens with."""
    task_id = submitted(world)
    modes: list[BillingMode] = ["free", "free", "paid"]
    for mode in modes:
        assert listen(world, LATE, task_id, mode) == 200

    assert sorted(cancel(world, task_id)) == sorted([*OWN, ("free", "session.late"), ("paid", "session.late")])


def test_who_is_told_already_is_not_told_twice(world: World) -> None:
    """The session that sent the task gets each event once."""
    task_id = submitted(world)
    assert listen(world, ANN, task_id) == 200

    assert sorted(cancel(world, task_id)) == OWN


def test_a_stranger_is_not_told(world: World) -> None:
    """A task of somebody else, and one that is not there, get the one answer."""
    task_id = submitted(world)

    assert listen(world, BOB, task_id) == listen(world, LATE, "nothing") == 404
    assert sorted(cancel(world, task_id)) == OWN


def test_the_newest_sessions_are_told(world: World) -> None:
    """There is a bound: one more takes the place of the oldest, who has its poll."""
    task_id = submitted(world)
    for number in range(MOST_WATCHERS + 1):
        listen(world, Consumer("ann", f"session.{number}"), task_id)
    told = {channel for _, channel in cancel(world, task_id)}

    assert "session.0" not in told
    assert {f"session.{number}" for number in range(1, MOST_WATCHERS + 1)} <= told


def test_the_end_needs_no_registration(world: World) -> None:
    """Joining a task that is over changes nothing."""
    task_id = submitted(world)
    cancel(world, task_id)

    assert listen(world, LATE, task_id) == 200
    assert world.store.read(lambda ledger: ledger.task(task_id)).watchers is None  # type: ignore[union-attr]


def test_it_is_said_again_to_all(world: World) -> None:
    """What a hub that died had not published is published to those who joined, too."""
    task_id = submitted(world)
    listen(world, LATE, task_id)
    cancel(world, task_id)
    again = world.store.read(lambda ledger: ledger.events_after(0, 100))

    assert "session.late" in {said.channel for said in again}
