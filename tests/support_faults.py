"""Faults for each transport under one set of names, so that one schedule can be played on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.transports.memory import Letter, MemoryBus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localnet import Net

    from blocks_worker.hub.network.faults import Fault

#: What may go wrong, and come right again, without anything being lost.
KINDS = ("drop", "delay", "duplicate", "reorder", "cut", "refuse", "hang")


class FaultyBus(MemoryBus):
    """Be a bus that spoils the next calls: what is taken without a word, said twice, swapped, or not answered."""

    def __init__(self) -> None:
        super().__init__()
        self.fault = ""
        self._left = 0

    def play(self, fault: str, count: int = 1) -> None:
        """Have this go wrong so often."""
        self.fault, self._left = fault, count

    def struck(self) -> bool:
        """Tell whether all of it went wrong."""
        return not self._left

    def heal(self) -> None:
        """Go well again."""
        self.fault = ""
        self.wake()

    def append(self, channel: str, producer: str, first: int, texts: Sequence[str]) -> None:
        """Take messages, or not, or twice."""
        if self._strikes("cut", "refuse", "hang"):
            raise ConnectionError("no answer")
        super().append(channel, producer, first, texts)
        if self._strikes("duplicate"):
            super().append(channel, producer, first, texts)
        if self._strikes("drop"):
            raise ConnectionError("no answer, though it was taken")

    def read(self, since: Mapping[str, int]) -> tuple[list[Letter], dict[str, int]]:
        """Give messages, late or in another order."""
        found, gone = super().read(since)
        if found and self._strikes("delay"):
            return [], gone
        return (found[::-1] if found and self._strikes("reorder") else found), gone

    def _strikes(self, *faults: str) -> bool:
        if self.fault not in faults or not self._left:
            return False
        self._left -= 1
        return True


#: How each of them is played on the local network: the kind of its fault, what it is for, and its fields.
_ON_NETWORK: dict[str, tuple[str, str, dict[str, Any]]] = {
    "drop": ("commit_then", "^POST /publish", {}),
    "delay": ("delay", "subscribe", {"seconds": 0.3}),
    "duplicate": ("duplicate", "", {}),
    "reorder": ("reorder", "", {}),
    "cut": ("rst", "", {}),
    "refuse": (
        "status",
        "^POST /publish",
        {"status": 403, "body": b'{"message":"Forbidden","error":true,"status":403}'},
    ),
    "hang": ("hang", "^POST /publish", {}),
}


def play_on(net: Net, fault: str, count: int = 1) -> Fault:
    """Have this go wrong so often on a local network."""
    kind, match, how = _ON_NETWORK[fault]
    return net.loop.call(net.network.faults.add, kind, match, count=count, **how)


def heal(net: Net) -> None:
    """Let everything go well again, and cut what hangs."""
    net.loop.call(net.network.faults.clear)
    net.loop.call(net.network.faults.heal)
