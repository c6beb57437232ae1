"""When what runs say wakes the thread that sends it."""

from __future__ import annotations

from typing import Any

import pytest
from support import FakeClock

from blocks_worker.concurrency import Entropy
from blocks_worker.errors import HubUnavailableError
from blocks_worker.protocol.control import StartTask
from blocks_worker.protocol.events import EventBody
from blocks_worker.worker.counters import Counters
from blocks_worker.worker.outbox import HOLD, Outbox
from blocks_worker.worker.outboxes import MANY
from blocks_worker.worker.publisher import Publisher
from blocks_worker.worker.run import Ending, Run
from blocks_worker.worker.spool import Spool

SAID = EventBody(type="progress", progress=0.0, state="running")


class Rung:
    """Be an alarm that counts, and sees that nobody rings with the lock held."""

    def __init__(self, publisher: Publisher) -> None:
        self.times = 0
        self._publisher = publisher

    def ring(self) -> None:
        """Count."""
        assert not self._publisher._lock.locked()
        self.times += 1


class Site:
    """Have a publisher whose thread is not started: it sleeps as long as a test says."""

    def __init__(self, sleeps: float) -> None:
        self.clock = FakeClock()
        nobody: Any = None
        self.publisher = Publisher(
            nobody,
            heard=nobody,
            nack=nobody,
            clock=self.clock,
            entropy=Entropy(),
            counters=Counters(),
            spool=Spool(None, incarnation=lambda: "i", unanswered=lambda _keys: [], clock=self.clock),
        )
        self.rung = Rung(self.publisher)
        alarm: Any = self.rung
        if sleeps > float("-inf"):
            self.publisher._watch.sleeps(alarm, self.clock.monotonic() + sleeps, may_watch=True)

    def begun(self, task: str = "t") -> Run:
        """Return a run that has its lease."""
        run = Run(StartTask(task_id=task, epoch=1, digest=""), Outbox((task, 1)), self.clock.monotonic())
        self.publisher.open(run, "lease")
        return run


def test_a_run_that_ends_at_once_wakes_the_thread_once() -> None:
    """Its first words wait for the outcome, and a thread that looks again before they are due is not woken for them."""
    site = Site(sleeps=HOLD)
    run = site.begun()

    site.publisher.emit(run, SAID)
    site.publisher.emit(run, SAID, waits=False)
    assert site.rung.times == 0
    site.publisher.end(run, Ending("completed"))
    assert site.rung.times == 1


@pytest.mark.parametrize(("sleeps", "times"), [(float("inf"), 1), (HOLD / 2, 0)])
def test_first_words_wake_a_thread_that_would_look_too_late(sleeps: float, times: int) -> None:
    """They are with the hub in time, whether the run ends or not."""
    site = Site(sleeps)

    site.publisher.emit(site.begun(), SAID)

    assert site.rung.times == times


def test_who_has_just_sent_looks_again_before_the_next_words_are_due() -> None:
    """Runs that follow each other closely have no wake-up for their beginnings; after that it sleeps on."""
    site = Site(sleeps=float("-inf"))
    now, (alarm, _) = site.clock.monotonic(), site.publisher._watch.alarms

    assert site.publisher._pause(alarm, now, lingers=True) == pytest.approx(HOLD)
    site.publisher._watch.woke(alarm, now)
    assert site.publisher._pause(alarm, now, lingers=False) is None


def test_an_awake_thread_is_not_woken() -> None:
    """It looks again by itself before it sleeps."""
    site = Site(sleeps=float("-inf"))

    site.publisher.end(site.begun(), Ending("completed"))

    assert site.rung.times == 0


def test_who_has_just_ended_waits_for_the_request_that_is_under_way_unless_many_have() -> None:
    """The second thread rests until as many runs have ended as are worth a request of their own."""
    site = Site(sleeps=float("-inf"))
    publisher = site.publisher
    first, _ = publisher._watch.alarms
    publisher.end(site.begun("first"), Ending("completed"))
    now = site.clock.monotonic()
    batch = publisher._boxes.gather(now)
    assert len(batch) == 1
    publisher._watch.woke(first, now)
    alarm: Any = site.rung
    publisher._pause(alarm, now, lingers=False)

    for number in range(MANY - 1):
        publisher.end(site.begun(str(number)), Ending("completed"))
    assert (site.rung.times, publisher._boxes.gather(now)) == (0, [])
    publisher.end(site.begun("last"), Ending("completed"))
    assert site.rung.times == 1
    assert len(publisher._boxes.gather(now)) == MANY


def test_what_failed_does_not_wait_for_the_other_request() -> None:
    """A thread whose request failed looks again when the pause is over, however long the other one is under way."""
    site = Site(sleeps=float("-inf"))
    publisher, (first, second) = site.publisher, site.publisher._watch.alarms
    for number in range(4 * MANY):
        publisher.end(site.begun(str(number)), Ending("completed"))
    now = site.clock.monotonic()
    publisher._watch.woke(first, now)
    batches = [publisher._boxes.gather(now), publisher._boxes.gather(now)]
    publisher._watch.woke(second, now)

    publisher._failed(HubUnavailableError("h", "away"), len(batches[0]), 0)
    publisher._boxes.sent(batches[0])
    pause = publisher._pause(first, now, lingers=True)

    assert pause is not None
    assert pause == pytest.approx(max(HOLD, publisher._repeats.not_before - now))
    publisher._watch.woke(first, now + pause)
    assert len(publisher._boxes.gather(now + pause)) == 2 * MANY


def test_a_hub_that_is_back_calls_who_rests_when_many_wait() -> None:
    """The other thread may sit in a request to a hub that was away."""
    site = Site(sleeps=float("-inf"))
    publisher, alarm = site.publisher, site.rung
    resting: Any = alarm
    for number in range(4 * MANY):
        publisher.end(site.begun(str(number)), Ending("completed"))
    now = site.clock.monotonic()
    batch = publisher._boxes.gather(now)
    assert len(batch) == 2 * MANY
    publisher._pause(resting, now, lingers=False)

    publisher.hub_is_back()

    assert alarm.times == 1
