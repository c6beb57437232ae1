"""Networks for the tests of this folder."""

from collections.abc import Iterator

import pytest
from localnet import Net, NetworkMaker, networks


@pytest.fixture
def start_network() -> Iterator[NetworkMaker]:
    """Give a function that starts networks."""
    with networks() as maker:
        yield maker


@pytest.fixture
def net(start_network: NetworkMaker) -> Net:
    """Give a running network without access control."""
    # A poll that a test holds is answered by what the test does, never by its end.
    return start_network(hold=25.0)
