"""Chance: what is drawn can not be foreseen, and ids sort as they were made."""

from __future__ import annotations

import threading
import uuid

import pytest
from support import SeededEntropy

from blocks_worker.concurrency import Alarm, Backoff, Entropy


def test_ids_sort_as_they_were_made() -> None:
    """Ids of one millisecond are in order, those of a clock that was set back too, and each is a UUID of version 7."""
    entropy = Entropy()
    times = [*[1_700_000_000_000] * 5_000, 1_700_000_000_001, 1_600_000_000_000, 1_800_000_000_000]
    ids = [entropy.uuid7(at) for at in times]

    assert ids == sorted(set(ids))
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert uuid.UUID(ids[-1]).int >> 80 == 1_800_000_000_000


def test_a_pause_that_was_asked_for_is_kept_and_spread() -> None:
    """Whoever was told the same seconds does not come back in the same moment; the next pause is longer. [A14]"""
    backoffs = [Backoff(SeededEntropy(seed), first=1.0, cap=8.0) for seed in range(50)]
    first, second, third = ([backoff.next(2.0) for backoff in backoffs] for _ in range(3))

    assert min(*first, *second, *third) >= 2.0
    assert [max(pauses) <= 2.0 + most for pauses, most in ((first, 1), (second, 2), (third, 4))] == [True] * 3
    assert len({round(pause, 3) for pause in first}) > 40
    assert max(third) > 4.0


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
