"""The one who asks the hub for all sessions: what it does when the answer does not come."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until

from blocks_worker.client.callbacks import CallbackPool
from blocks_worker.client.session import TaskSession
from blocks_worker.client.subscriptions import SWEEP, Subscriptions
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import HubUnavailableError
from blocks_worker.protocol.tasks import EventsAnswer, EventsQuery, TaskRow
from blocks_worker.transports.base import Message
from blocks_worker.transports.memory import MemoryBus, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blocks_worker.transports.base import AtOnce, Transport

TASKS = 150
#: Tasks in one answer that this hub gets through.
MOST = 40


class Owner:
    """Be the client of sessions, and the hub that it asks."""

    def __init__(self) -> None:
        self.pool = CallbackPool()
        self.clock = Clock()
        self.asked: list[int] = []
        self.subscriptions = Subscriptions(
            open_transport=self.open_transport,
            channel=lambda: "session.one",
            ask=self.ask,
            billing_mode="free",
            clock=self.clock,
            entropy=Entropy(),
        )

    def open_transport(self, at_once: AtOnce) -> Transport:
        """Return a transport of which nothing comes, and keep who takes what would come at once."""
        self.at_once = at_once
        return MemoryTransport(MemoryBus(), producer="p")

    def ask(self, queries: Sequence[EventsQuery]) -> list[ItemResult[EventsAnswer]]:
        """Answer that all is over, or fail as when the answer is too large."""
        self.asked.append(len(queries))
        if len(queries) > MOST:
            raise HubUnavailableError("test://hub", "the answer is larger than it may be", sent=True)
        return [ItemResult(200, ended(query.task_id), None) for query in queries]

    def forget(self, session: TaskSession) -> None:
        """Route nothing to it any more."""
        self.subscriptions.forget(session)


def ended(task_id: str) -> EventsAnswer:
    """Return the ledger's answer for a task that is over."""
    row = TaskRow(
        task_id=task_id,
        agent_name="echo",
        owner="o",
        state="completed",
        created_time=1,
        updated_time=1,
        attempt=1,
        epoch=1,
        last_n=0,
    )
    terminal: dict[str, Any] = {"type": "terminal", "taskId": task_id, "epoch": 1, "seq": 1, "state": "completed"}
    return EventsAnswer(task=row, events=[msgspec.Raw(msgspec.json.encode(terminal))])


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Give a client, which listens once it is opened."""
    made = Owner()
    yield made
    made.subscriptions.close(Deadline(5))
    made.pool.stop()


def test_a_question_that_is_too_large_is_asked_in_parts(owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    """After each failure about half as many tasks, until an answer comes; then more again. The log says it once."""
    sessions = [TaskSession(owner, f"t{number}", poll=0.01) for number in range(TASKS)]  # type: ignore[arg-type]
    for session in sessions:
        owner.subscriptions.add(session)
        owner.subscriptions.watch(session)
    with caplog.at_level(logging.WARNING):
        owner.subscriptions.open()
        wait_until(lambda: all(session.is_closed for session in sessions), 20, "every end is known")

    is_bad = [asked > MOST for asked in owner.asked]
    assert any(is_bad)
    assert max(asked for asked in owner.asked if asked <= MOST) > MOST // 2
    runs = sum(bad and not before for before, bad in zip([False, *is_bad], is_bad, strict=False))
    assert [record.message for record in caplog.records] == ["client_poll_failed"] * runs


def _come_and_go(owner: Owner, count: int, *, poll: float) -> None:
    """Open sessions and end each before it is looked at."""
    for number in range(count):
        session = TaskSession(owner, f"task-{number}", poll=poll)  # type: ignore[arg-type]
        owner.subscriptions.add(session)
        owner.subscriptions.watch(session)
        owner.subscriptions.forget(session)


def test_sessions_that_are_over_leave_nothing_in_the_plan(owner: Owner) -> None:
    """Of 5,000 sessions that ended before the hub was to be asked about them, few entries are left."""
    _come_and_go(owner, 5_000, poll=10.0)

    assert (len(owner.subscriptions._due) <= SWEEP + 1, owner.subscriptions.sessions()) == (True, [])


def test_nobody_wakes_for_a_session_that_is_over(owner: Owner) -> None:
    """Of sessions that ended, few enough to be left in the plan, none has the thread look when they would have."""
    _come_and_go(owner, 10, poll=0.1)

    assert owner.subscriptions._wait() == pytest.approx(5.0)


def test_who_is_told_at_once_says_when_the_hub_is_to_be_asked_soon(owner: Owner) -> None:
    """What completes a task asks for nothing; a hole behind which an event came has the thread look before long."""
    whole, broken = (TaskSession(owner, f"t{number}", poll=60.0) for number in range(2))  # type: ignore[arg-type]
    for session in (whole, broken):
        owner.subscriptions.add(session)
        owner.subscriptions.watch(session)
    owner.subscriptions.open()
    wait_until(lambda: owner.subscriptions._waits_until > 0, what="the thread waits")

    assert not owner.at_once([event("t0", 1), event("t0", 2)])
    assert not owner.at_once([event("nobody", 1), Message("c", {"type": "no event"}, 1)])
    assert owner.at_once([event("t1", 2)])
    assert [one.n for one in whole.list_events()] == [1, 2]
    assert broken.list_events() == []


def event(task_id: str, n: int) -> Message:
    """Return an event of a task as it comes."""
    return Message("c", {"type": "progress", "taskId": task_id, "epoch": 1, "n": n, "seq": n}, n)
