"""One hub for all tests of its doors: each test makes agents and tasks under names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support_hub import Caller, let_in, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the state folder of the hub."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="session")
def bob_key(folder: Path) -> str:
    """Give the API key of another owner."""
    return let_in(folder, "bob")


@pytest.fixture(scope="session")
def hub(folder: Path, bob_key: str) -> Iterator[Caller]:
    """Give a caller of a running hub."""
    with running_hub(folder) as caller:
        yield caller


@pytest.fixture
def token(hub: Caller) -> str:
    """Give a consumer token of the local owner."""
    return str(hub.consumer()["accessToken"])


@pytest.fixture
def bob(hub: Caller, bob_key: str) -> str:
    """Give a consumer token of another owner."""
    return str(hub.consumer(bob_key)["accessToken"])
