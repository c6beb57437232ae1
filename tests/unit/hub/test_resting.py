"""Which sweeps are left out: only those that would find nothing, and never many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ledger_world import World, done

from blocks_worker.hub.resting import CALM, NEVER_MORE, Resting

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Hub(World):
    """Sweep as a hub does, twice a second."""

    def boot(self) -> None:
        """Begin as one that just started."""
        super().boot()
        self.resting = Resting(self.store, self.instances, self.sweeper)
        self.swept = 0

    def tend(self, sweeps: int) -> int:
        """Let so many sweeps be due; return how many were made."""
        before = self.swept
        for _ in range(sweeps):
            self.clock.advance(0.5)
            if not self.resting.leaves_out():
                self.do(lambda ledger: self.sweeper.sweep(ledger, may_rest=self.resting.is_calm))
                self.resting.wrote()
                self.swept += 1
        return self.swept - before


def _states(hub: World) -> dict[str, str]:
    """Return how the instances stand that are not gone."""
    return {row.incarnation: row.state for row in hub.store.read(lambda ledger: ledger.instances())}


@pytest.fixture
def hub() -> Iterator[_Hub]:
    """Be a hub with one agent, at which nothing happens."""
    with _Hub() as hub:
        hub.add_agent()
        yield hub


def test_an_idle_hub_leaves_out_most_of_its_sweeps(hub: _Hub) -> None:
    """After a short while it makes one of four, and heartbeats change nothing about that."""
    holder = hub.join("a")
    hub.tend(CALM + 2)
    for _ in range(5):
        assert hub.tend(NEVER_MORE) == 1
        hub.beat(holder)


def test_each_write_has_the_next_sweeps_made(hub: _Hub) -> None:
    """An offer that was refused is made again after a second: until then each sweep looks."""
    hub.tend(10)
    hub.add()

    assert hub.tend(CALM) == CALM


def test_no_sweep_is_left_out_while_a_task_is_held_or_near_its_limit(hub: _Hub) -> None:
    """Offers that nobody takes, leases and limits are as exact as ever."""
    holder = hub.join("a")
    lease = hub.run(holder, "t1")
    for _ in range(10):
        hub.beat(holder, ("t1", 1))
        assert hub.tend(2) == 2
    hub.report(holder, lease, "t1", outcome=done())
    hub.tend(CALM + 2)
    assert hub.tend(NEVER_MORE) == 1


def test_a_retry_that_is_near_is_made_ready_in_time(hub: _Hub) -> None:
    """What waits for a moment far off lets the hub rest, until that is near."""
    hub.add("t1", delay=60.0)
    assert hub.tend(2 * 40) < 40
    hub.tend(2 * 16)
    assert hub.tend(2 * 3) == 2 * 3
    assert hub.row().ready_at is not None
    hub.tend(2)

    assert hub.row().ready_at is None


def test_whoever_is_gone_is_seen_by_the_next_sweep(hub: _Hub) -> None:
    """[R10] A process that ended, and one that is silent, end the rest."""
    hub.processes[7] = True
    holder = hub.join("a", pid=7)
    hub.tend(CALM + 2)
    hub.beat(holder)
    while hub.tend(1):  # the next ones are left out
        pass
    hub.processes[7] = False

    assert hub.tend(1) == 1
    assert _states(hub) == {}


def test_a_silent_one_is_seen_when_its_beats_are_missed(hub: _Hub) -> None:
    """Nobody is offered anything who was not heard for two beats and a half."""
    hub.join("a")
    hub.tend(2 * 13)

    assert _states(hub) == {"a": "suspect"}
