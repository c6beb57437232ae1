"""Networks for streams, and sides that are closed with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from localnet import networks
from pubnub_pair import transports
from support_streams import ENTROPY, Side

from blocks_worker.transports.memory import MemoryBus, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.transports.base import Transport


@pytest.fixture(params=["memory", "pubnub"])
def open_transport(request: pytest.FixtureRequest) -> Iterator[Callable[[], Transport]]:
    """Give what opens transports of one network."""
    if request.param == "memory":
        bus = MemoryBus()
        yield lambda: MemoryTransport(bus, producer=ENTROPY.name(8))
        return
    with networks() as make, transports() as transport:
        net = make()
        yield lambda: transport(net.port, ENTROPY.name(8))


@pytest.fixture
def side(open_transport: Callable[[], Transport]) -> Iterator[Callable[[], Side]]:
    """Give what makes processes on that network."""
    made: list[Side] = []

    def make() -> Side:
        made.append(Side(open_transport))
        return made[-1]

    yield make
    for each in made:
        each.close()
