"""What is told of the state of an instance that comes and goes: the hub acts on each change, and tells few of them."""

from __future__ import annotations

from blocks_worker.protocol.instances import InstanceState

#: Seconds between two changes that are told.
STEADY = 10.0
#: The states between which an instance comes and goes. The others have an order, and are told at once.
_RETURNING = frozenset({InstanceState.READY.value, InstanceState.SUSPECT.value, InstanceState.DEGRADED.value})


class Appearance:
    """Be how one instance looks from outside; seen on the writer's thread, read on any."""

    __slots__ = ("_since", "_told")

    def __init__(self) -> None:
        self._told = ""
        self._since = float("-inf")

    def see(self, state: str, now: float) -> None:
        """Take in how it stands now, by a monotonic clock; too soon after a change, that is told at a later look."""
        if state == self._told:
            return
        if {state, self._told} <= _RETURNING:
            if now - self._since < STEADY:
                return
            self._since = now
        self._told = state

    def told(self, state: str) -> str:
        """Return what is told of an instance that stands so in the ledger."""
        return self._told if {state, self._told} <= _RETURNING else state
