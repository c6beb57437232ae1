"""How much may be asked again."""

from __future__ import annotations

from support import FakeClock

from blocks_worker.controlplane.budget import ALLOWANCE, PACE, Budget

MOST = int(ALLOWANCE)


def repeats(budget: Budget, tries: int, place: str = "reports") -> int:
    """Return how many of so many repeats at one moment are allowed."""
    budget.failed(place)
    return sum(budget.allows(place) for _ in range(tries))


def test_a_lone_caller_may_repeat_some_times() -> None:
    """At first a few repeats are free, and none is after them. [A14]"""
    assert repeats(Budget(FakeClock()), 50) == MOST


def test_in_the_long_run_a_tenth_is_repeated() -> None:
    """Of many calls of which each fails, the repeats are a tenth of the others and the few of the beginning. [A14]"""
    budget, again = Budget(FakeClock()), 0
    for number in range(1000):
        assert budget.allows(f"task {number}")
        again += repeats(budget, 3, f"task {number}")

    assert 100 <= again <= 100 + MOST


def test_who_waits_long_enough_repeats_nothing() -> None:
    """A call after the pace of whoever is alone goes, however little is left. [A14]"""
    clock = FakeClock()
    budget = Budget(clock)
    repeats(budget, 50)
    clock.advance(PACE - 0.1)
    too_soon = budget.allows("reports")
    clock.advance(0.1)

    assert (too_soon, budget.allows("reports")) == (False, True)


def test_other_places_and_answers_are_no_repeats() -> None:
    """What failed at one place concerns no other, and an answer ends it."""
    budget = Budget(FakeClock())
    repeats(budget, 50)
    other = budget.allows("claims")
    budget.answered("reports")

    assert (other, budget.allows("reports")) == (True, True)


def test_many_failed_places_are_not_remembered_for_ever() -> None:
    """Of thousands of places that failed the oldest are forgotten, the newest are known."""
    budget = Budget(FakeClock())
    repeats(budget, 50)
    for number in range(2000):
        budget.failed(f"task {number}")

    assert (budget.allows("task 0"), budget.allows("task 1999")) == (True, False)
