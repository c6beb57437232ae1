"""What a thread sleeps on."""

from __future__ import annotations

import threading

import pytest

from blocks_worker.worker.alarm import Alarm


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
