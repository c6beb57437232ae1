"""What a thread sleeps on."""

from __future__ import annotations

import threading

import pytest

from blocks_worker.concurrency import Alarm
from blocks_worker.worker.alarm import Waiters


def test_a_ring_before_the_sleep_counts() -> None:
    """Nothing is lost that comes just before the thread sleeps, and several rings are one."""
    alarm = Alarm()
    alarm.ring()
    alarm.ring()

    alarm.sleep(None)
    alarm.sleep(0.001)


@pytest.mark.parametrize("seconds", [None, 1e12])
def test_a_ring_wakes_the_thread(seconds: float | None) -> None:
    """However long it would sleep."""
    alarm, asleep = Alarm(), threading.Event()

    def sleep() -> None:
        asleep.set()
        alarm.sleep(seconds)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    asleep.wait()
    alarm.ring()
    sleeper.join(30)

    assert not sleeper.is_alive()


def test_waiters_are_woken_and_nobody_else_is_asked() -> None:
    """Who waits looks again when something has changed; without waiters there is nothing to signal."""
    lock = threading.Lock()
    waiters, waits, went_on = Waiters(lock), threading.Event(), threading.Event()

    def wait() -> None:
        with lock:
            waits.set()
            waiters.wait(None)
        went_on.set()

    with lock:
        waiters.wake()
    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()
    with lock:  # had only once the other one waits
        waiters.wake()

    assert went_on.wait(30)
    thread.join(30)
