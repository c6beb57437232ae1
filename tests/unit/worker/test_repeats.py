"""When reports may be sent again after one could not be."""

from __future__ import annotations

import pytest
from support import FakeClock

from blocks_worker.errors import HubUnavailableError
from blocks_worker.worker.repeats import Repeats


class Longest:
    """Draw the longest pause each time."""

    def uniform(self, _low: float, high: float) -> float:
        """Return the upper bound."""
        return high


def away() -> HubUnavailableError:
    """Return what a hub that does not answer raises."""
    return HubUnavailableError("h", "away")


def test_the_pause_grows_and_its_reason_is_news_once() -> None:
    """Each failure doubles it, an answer ends it."""
    clock = FakeClock()
    repeats = Repeats(clock, Longest())  # type: ignore[arg-type]  # all that is asked of an entropy here
    pauses = []
    for number in range(3):
        assert repeats.failed(away(), 0) is (number == 0)
        pauses.append(repeats.not_before - clock.monotonic())
        clock.advance(pauses[-1])
    assert pauses == pytest.approx([0.2, 0.4, 0.8])
    assert repeats.recovered()
    assert repeats.not_before == float("-inf")
    assert not repeats.recovered()


def test_two_that_fail_together_make_one_pause() -> None:
    """The second of two requests that were under way adds nothing."""
    clock = FakeClock()
    repeats = Repeats(clock, Longest())  # type: ignore[arg-type]  # all that is asked of an entropy here
    repeats.failed(away(), 0)
    first = repeats.not_before
    repeats.failed(away(), 0)
    assert repeats.not_before == first


def test_a_hub_that_is_back_before_the_failure_is_noted_has_no_pause_after_it() -> None:
    """A heartbeat may be answered while a report waits for its time to be over: the pause is left out. [P8]"""
    repeats = Repeats(FakeClock(), Longest())  # type: ignore[arg-type]  # all that is asked of an entropy here
    left = repeats.returns
    repeats.hub_is_back()
    repeats.failed(away(), left)
    assert repeats.not_before == float("-inf")
