import os
import socket
from pathlib import Path

import pytest

from blocks_worker.observability.notify import Notifier


def bound(name: str) -> socket.socket:
    """Return a socket that listens under the name."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    door.settimeout(5)
    door.bind(name)
    return door


def test_states_arrive_in_one_datagram(tmp_path: Path) -> None:
    """The manager gets the states of one call together."""
    with bound(str(tmp_path / "notify")) as door:
        sent = Notifier(str(tmp_path / "notify")).send("READY=1", "STATUS=serving\necho")

        assert (sent, door.recv(100)) == (True, b"READY=1\nSTATUS=serving echo")


def test_an_abstract_name_is_reached(tmp_path: Path) -> None:
    """A name that begins with @ is one that is in no file system."""
    name = f"blocks-test-{os.getpid()}-{tmp_path.name}"
    with bound("\0" + name) as door:
        Notifier("@" + name).send("STOPPING=1")

        assert door.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "/" + "x" * 300])
def test_nobody_there_is_no_trouble(address: str | None) -> None:
    """Without a manager, or with a bad address, nothing is sent and nothing raised."""
    assert Notifier(address).send("READY=1") is False
