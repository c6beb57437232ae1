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
    return start_network()
