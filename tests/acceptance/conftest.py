"""What tests with real processes share: a world for each, ended with it, and clients of its hub."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_processes import BIN, ROOT, Daemon, World, free_port, new_world

from blocks_worker.client.client import TaskClient

__all__ = ["BIN", "ROOT", "Daemon", "World", "free_port"]


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """Give the test an empty world, whose processes speak by the transport it is given; end what it started."""
    world = new_world(tmp_path, getattr(request, "param", os.environ.get("TEST_TRANSPORT")))
    yield world
    for daemon in world.daemons:
        if daemon.process.poll() is None:
            daemon.kill()


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], TaskClient]]:
    """Return a function that opens clients of the test's hub; they are closed at the end."""
    for name in ("BLOCKS_STATE_DIR", "BLOCKS_HUB_URL", "BLOCKS_TRANSPORT"):
        if name in world.environment:
            monkeypatch.setenv(name, world.environment[name])
    opened: list[TaskClient] = []

    def open_client() -> TaskClient:
        opened.append(TaskClient.create("free"))
        return opened[-1]

    yield open_client
    for one in opened:
        one.destroy()
