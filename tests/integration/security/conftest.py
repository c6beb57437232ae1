"""One hub for the probes of each file; owners who know nothing of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support_probes import Arena, World, arena

from blocks_worker.protocol.leases import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Give a running hub whose audit is read."""
    # Nobody beats for the tasks of the probes, which run as long as all tests of a file take.
    with arena(tmp_path_factory.mktemp("probed"), numbers=Numbers(lease_ttl=3600.0)) as running:
        yield running


@pytest.fixture(scope="module")
def ann_key(stage: Arena) -> str:
    """Give the API key of the owner who is attacked."""
    return stage.owner("ann")


@pytest.fixture(scope="module")
def bob_key(stage: Arena) -> str:
    """Give the API key of the owner who attacks."""
    return stage.owner("bob")


@pytest.fixture(scope="module")
def ann(stage: Arena, ann_key: str) -> World:
    """Give what one owner has; no probe may change it."""
    return World(stage, ann_key)


@pytest.fixture(scope="module")
def bob(stage: Arena, bob_key: str) -> World:
    """Give what the other owner has."""
    return World(stage, bob_key)
