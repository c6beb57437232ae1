"""When the switch interval is short: while somebody who only waits comes round late, and for a while after."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from blocks_worker.cli.giving_way import SHORT, USUAL, GivingWay

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    """Give the process back what it had."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def rounds(giving_way: GivingWay, *late: float) -> list[float]:
    """Return the interval after each of these rounds."""
    found = []
    for each in late:
        giving_way.came_round(each)
        found.append(round(sys.getswitchinterval(), 6))
    return found


def test_one_late_round_is_chance() -> None:
    """A machine that is busy makes anybody late now and then."""
    assert rounds(GivingWay(), 0.02, 0.0, 0.02, 0.0) == [USUAL] * 4


def test_two_in_a_row_shorten_it_for_ten() -> None:
    """After them it is tried again with the usual one, and shortened again when it is needed still."""
    giving_way = GivingWay()
    assert rounds(giving_way, 0.005, 0.005) == [USUAL, SHORT]
    assert rounds(giving_way, *[0.0] * 10) == [*[SHORT] * 9, USUAL]
    assert rounds(giving_way, 0.005, 0.005) == [USUAL, SHORT]
