"""When what runs say wakes the thread that sends it."""

from __future__ import annotations

from typing import Any

import pytest
from support import FakeClock

from blocks_worker.concurrency import Entropy
from blocks_worker.protocol.control import StartTask
from blocks_worker.protocol.events import EventBody
from blocks_worker.worker.counters import Counters
from blocks_worker.worker.outbox import HOLD, Outbox
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
        self.publisher._looks_at = self.clock.monotonic() + sleeps
        rung: Any = Rung(self.publisher)
        self.publisher._alarm = rung
        self.rung: Rung = rung

    def begun(self) -> Run:
        """Return a run that has its lease."""
        run = Run(StartTask(task_id="t", epoch=1, digest=""), Outbox(("t", 1)), self.clock.monotonic())
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
    site = Site(sleeps=0)
    now = site.clock.monotonic()

    assert site.publisher._pause(now, lingers=True) == pytest.approx(HOLD)
    assert site.publisher._pause(now, lingers=False) is None


def test_an_awake_thread_is_not_woken() -> None:
    """It looks again by itself before it sleeps."""
    site = Site(sleeps=float("-inf"))

    site.publisher.end(site.begun(), Ending("completed"))

    assert site.rung.times == 0
