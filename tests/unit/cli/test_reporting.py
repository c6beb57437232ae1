"""What the service manager hears, over a real datagram socket."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from blocks_worker.cli.reporting import LOOK, STUCK, Reporter
from blocks_worker.config import worker_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as a service manager does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.setblocking(False)
        yield door


def reporter(tmp_path: Path, watchdog: float | None) -> Reporter:
    """Return a reporter to that manager."""
    return Reporter(replace(worker_config({}), notify_socket=str(tmp_path / "notify"), watchdog=watchdog))


def heard(manager: socket.socket) -> list[str]:
    """Return what came, a datagram a line."""
    said = []
    while True:
        try:
            said.append(manager.recv(4096).decode())
        except BlockingIOError:
            return said


def test_a_status_is_told_when_it_is_new(manager: socket.socket, tmp_path: Path) -> None:
    """Without a watchdog there are no pings, and nothing is said twice."""
    told = reporter(tmp_path, None)
    told.ready("ready, 0 of 2 slots busy")
    for busy in (0, 1, 1):
        told.tell(f"ready, {busy} of 2 slots busy")
    told.stopping("draining, 1 task left")

    assert heard(manager) == [
        "READY=1\nSTATUS=ready, 0 of 2 slots busy",
        "STATUS=ready, 1 of 2 slots busy",
        "STOPPING=1\nSTATUS=draining, 1 task left",
    ]


def test_what_does_not_get_on_pings_no_more(manager: socket.socket, tmp_path: Path) -> None:
    """A ping says that the threads behind get on; the status is told all the same."""
    told = reporter(tmp_path, 30.0)
    told.tell("a", behind=STUCK - 1)
    told.tell("a")
    told.tell("a", behind=STUCK)
    told.tell("b", behind=STUCK)

    assert heard(manager) == ["STATUS=a\nWATCHDOG=1", "WATCHDOG=1", "STATUS=b"]


@pytest.mark.parametrize(("watchdog", "expected"), [(None, LOOK), (600.0, LOOK), (3.0, 1.0)])
def test_reports_come_as_often_as_the_watchdog_wants(watchdog: float | None, expected: float, tmp_path: Path) -> None:
    """Three come in its time."""
    assert reporter(tmp_path, watchdog).interval == expected
    assert Reporter(worker_config({})).interval is None
