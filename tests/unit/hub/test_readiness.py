"""What has to hold for a hub to serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import FakeClock, LoopThread, SeededEntropy
from support_worker import LedgerInProcess

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.network.network import LocalNetwork
from blocks_worker.hub.network.settings import Keyset
from blocks_worker.hub.readiness import SWEPT_LATELY, Readiness

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


def network() -> LocalNetwork:
    """Return a network that does not listen."""
    return LocalNetwork([Keyset("pub", "sub")], secrets=None, clock=FakeClock(), entropy=SeededEntropy())


def unmet(readiness: Readiness) -> set[str]:
    """Return the names of the conditions that do not hold."""
    return {one.name for one in readiness.conditions() if not one.is_met}


def test_sweeps_have_to_come(hub: LedgerInProcess) -> None:
    """A hub whose last sweep is long ago is stuck; the next sweep ends that. [R-54]"""
    clock = FakeClock()
    readiness = Readiness(hub.store, network(), clock)
    clock.advance(SWEPT_LATELY)
    just = unmet(readiness)
    clock.advance(0.1)
    late = unmet(readiness)
    readiness.swept()

    assert (just, late, unmet(readiness)) == ({"network"}, {"network", "sweeps"}, {"network"})


def test_a_ledger_that_takes_nothing_is_told(hub: LedgerInProcess) -> None:
    """A store that is closed, or whose disk failed, is a condition with its sentence. [R-54]"""
    readiness = Readiness(hub.store, network(), FakeClock())
    hub.store.close(Deadline(5))
    (ledger,) = [one for one in readiness.conditions() if one.name == "ledger"]

    assert (ledger.is_met, ledger.says) == (False, "the store is closed")


def test_a_network_that_listens_is_met(hub: LedgerInProcess) -> None:
    """The condition follows what the network does."""
    net = network()
    readiness = Readiness(hub.store, net, FakeClock())
    with LoopThread() as loop:
        loop.run(net.start())
        listening = unmet(readiness)
        loop.run(net.stop())

    assert (listening, unmet(readiness)) == (set(), {"network"})
