"""The thread that sends: a fault of one stream that nobody expects leaves none unheard."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from support import wait_until
from support_streams import AllGranted

from blocks_worker.concurrency import Clock, Deadline, ServiceThread
from blocks_worker.streams.exchange import StreamExchange
from blocks_worker.streams.publishes import Publishes
from blocks_worker.transports.memory import MemoryBus, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


class Ahead(MemoryTransport):
    """Be a transport that sends ahead; what it sends first cannot be settled."""

    def __init__(self) -> None:
        super().__init__(MemoryBus(), producer="p")
        self.faults: list[Exception] = [RuntimeError("can't start new thread")]

    def begin(self, _channel: str, _messages: Sequence[dict[str, Any]], _deadline: Deadline) -> Any:
        """Take it."""
        return SimpleNamespace(is_answered=True, settle=self._settle)

    def hint(self, *_about: Any) -> bool:
        """Take none."""
        return False

    def _settle(self, _deadline: Deadline) -> None:
        if self.faults:
            raise self.faults.pop()


class Speaker:
    """Be an endpoint that has one thing to say until it is sent."""

    writer = None

    def __init__(self, channel: str) -> None:
        self.write_channel = channel
        self.is_sent = False
        self._is_given = False

    def outgoing(self) -> tuple[list[Any], list[Any]]:
        """Return what was not given yet."""
        frames = [] if self._is_given else [{"said": self.write_channel}]
        self._is_given = True
        return [], frames

    def unsent(self) -> None:
        """Give it again."""
        self._is_given = False

    def sent(self, frames: int) -> bool:
        """Take note."""
        self.is_sent = frames > 0
        return False

    def due(self) -> float:
        """Be never due."""
        return float("inf")

    def close(self) -> None:
        """Do nothing."""


def test_a_fault_of_one_stream_leaves_no_other_unsent(caplog: pytest.LogCaptureFixture) -> None:
    """Both are sent: the one whose publish could not be settled, and the one whose turn it took."""
    transport, clock = Ahead(), Clock()
    exchange = StreamExchange(open_transport=lambda: transport, grants=AllGranted(), clock=clock)
    exchange._publishes = Publishes(transport, kick=exchange.kick, clock=clock)
    speakers: list[Any] = [Speaker("a"), Speaker("b")]
    exchange._open = {each: SimpleNamespace(leaves_at=None) for each in speakers}  # type: ignore[misc]
    for each in speakers:
        exchange.kick(each)
    sender = ServiceThread("sender", exchange._send, daemon=True)
    sender.start()
    try:
        wait_until(lambda: all(each.is_sent for each in speakers), 10, "both to be sent")
    finally:
        exchange.stop()
        assert sender.join(10)

    assert "stream_send_failed" in caplog.text
