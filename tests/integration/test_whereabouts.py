"""Looking for hub and network again: when, how often, and who is told."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support import SeededEntropy, wait_until

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.controlplane.whereabouts import FAR, LOOK_TIMEOUT, NEAR, PATIENCE, Whereabouts, document_now
from blocks_worker.errors import ConfigurationError, HubUnavailableError
from blocks_worker.processes import this_process
from blocks_worker.state import LocalHub, StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


#: Seconds of these tests, in the proportions of those in use.
SOON = PATIENCE / 5
NEXT = NEAR / 5


@dataclass(frozen=True)
class Where:
    """A place."""

    hub_url: str = "http://127.0.0.1:1"
    origin: str = "http://127.0.0.1:2"


class Finder:
    """Find what the test says; count."""

    def __init__(self) -> None:
        self.place: Where | Exception = Where()
        self.looks = 0

    def __call__(self) -> Where:
        """Find it."""
        self.looks += 1
        if isinstance(self.place, Exception):
            raise self.place
        return self.place


@pytest.fixture
def finder() -> Finder:
    """Give what finds."""
    return Finder()


@pytest.fixture
def where(finder: Finder) -> Iterator[Whereabouts[Where]]:
    """Give what looks, and end it."""
    made = Whereabouts(Where(), find=finder, clock=Clock(), entropy=SeededEntropy(), patience=SOON, interval=NEXT)
    yield made
    made.close(Deadline(5))


MOVED = Where(origin="http://127.0.0.1:3")


def test_one_look_for_a_question(finder: Finder, where: Whereabouts[Where]) -> None:
    """What was strange once is looked after once, and the answer that nothing changed ends it."""
    where.ask()
    where.ask()
    wait_until(lambda: finder.looks >= 1, what="the look")
    wait_until(lambda: not where._asked, what="its end")
    threading.Event().wait(2 * NEXT)

    assert finder.looks == 1


def test_a_network_that_is_away_is_looked_for_until_it_is_back(finder: Finder, where: Whereabouts[Where]) -> None:
    """While it is away for one of them every look that changes nothing is followed by another; then by none."""
    where.lose("one")
    where.lose("two")
    where.regain("one")
    wait_until(lambda: finder.looks >= 2, what="two looks")
    where.regain("two")
    looks = finder.looks
    threading.Event().wait(2 * NEXT)

    assert finder.looks <= looks + 1


@pytest.mark.parametrize("error", [HubUnavailableError("x", "away"), ConfigurationError("no document")])
def test_nothing_found_is_asked_again(finder: Finder, where: Whereabouts[Where], error: Exception) -> None:
    """A hub that is away, or somebody else in its place, is no answer."""
    finder.place = error
    where.ask()
    wait_until(lambda: finder.looks >= 1, what="the first look")
    finder.place = MOVED
    wait_until(lambda: where.now == MOVED, what="the new place")


def test_followers_are_told_in_order_and_one_spoils_no_other(finder: Finder, where: Whereabouts[Where]) -> None:
    """Who came first is told first; who left is not told; a broken one is logged."""
    told: list[str] = []

    def broken() -> None:
        raise LookupError("broken")

    def left() -> None:
        told.append("left")

    where.follow(lambda: told.append(f"first {where.now.origin}"))
    where.follow(broken)
    where.follow(left)
    where.follow(lambda: told.append("last"))
    where.leave(left)
    finder.place = MOVED

    assert not where.look()
    assert where.look()
    assert told == ["first http://127.0.0.1:3", "last"]


def test_a_place_that_was_told_is_never_looked_for() -> None:
    """Without a way to find it anew nothing is asked, and nothing doubted."""
    where = Whereabouts(Where(), find=None, clock=Clock(), entropy=SeededEntropy())
    where.lose("one")
    where.ask()

    assert where.look()
    assert where._thread is None


def test_after_the_end_nothing_is_told(finder: Finder, where: Whereabouts[Where]) -> None:
    """Who closed is not moved any more."""
    told: list[str] = []
    where.follow(lambda: told.append("moved"))
    where.close(Deadline(5))
    finder.place = MOVED
    where.look()
    where.lose("one")

    assert told == []
    assert where._thread is None


def test_looks_leave_time_for_the_rest() -> None:
    """[R-30] A pause with its jitter, one look and a slow handshake are less than twenty seconds, hosted too."""
    handshake = 5.0

    assert FAR * 1.2 + LOOK_TIMEOUT + handshake < 20.0


def test_where_the_document_is(tmp_path: Path) -> None:
    """A told address stays; the hub of the state folder is where it says, and nowhere while it does not run."""
    assert document_now("http://hub/cdm", tmp_path) == "http://hub/cdm"
    with pytest.raises(HubUnavailableError):
        document_now(None, tmp_path)
    process = this_process()
    StateFolder(tmp_path).announce(
        LocalHub("http://127.0.0.1:7", "http://127.0.0.1:8", process.host, process.pid, process.started, "0")
    )

    assert document_now(None, tmp_path) == "http://127.0.0.1:7/api/v1/cdm"
