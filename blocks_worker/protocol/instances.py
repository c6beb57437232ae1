"""What may become of an instance, as the hub sees it: states and turns as a table."""

from __future__ import annotations

from enum import Enum


class InstanceState(str, Enum):
    """Where an instance stands with the hub."""

    REGISTERING = "registering"
    READY = "ready"
    DRAINING = "draining"
    SUSPECT = "suspect"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    LOST = "lost"
    SUPERSEDED = "superseded"


class InstanceTurn(str, Enum):
    """What may happen to an instance."""

    #: its first heartbeat: it listens by then
    PROVED = "proved"
    #: a heartbeat says that it drains, or its owner asks it to
    DRAIN = "drain"
    #: its last heartbeat
    STOP = "stop"
    #: no heartbeat for 2.5 intervals
    MISSED = "missed"
    #: it was heard again, and has all that it needs
    BEAT = "beat"
    #: a heartbeat says that its process is short of descriptors, memory or threads: it is offered nothing
    STRAINED = "strained"
    #: its process is gone, or it was not heard of for `lease_ttl` + `lease_grace`
    SILENT = "silent"
    #: a newer incarnation of the same name connected
    SUPERSEDE = "supersede"


INSTANCE_GONE = frozenset({InstanceState.STOPPED, InstanceState.LOST, InstanceState.SUPERSEDED})

_I, _T = InstanceState, InstanceTurn

INSTANCE_RULES: dict[tuple[InstanceState, InstanceTurn], InstanceState] = {
    (_I.REGISTERING, _T.PROVED): _I.READY,
    (_I.REGISTERING, _T.SILENT): _I.LOST,
    (_I.REGISTERING, _T.DRAIN): _I.DRAINING,
    (_I.REGISTERING, _T.STOP): _I.STOPPED,
    (_I.READY, _T.DRAIN): _I.DRAINING,
    (_I.READY, _T.STOP): _I.STOPPED,
    (_I.READY, _T.MISSED): _I.SUSPECT,
    (_I.READY, _T.SILENT): _I.LOST,
    (_I.DRAINING, _T.STOP): _I.STOPPED,
    (_I.DRAINING, _T.SILENT): _I.LOST,
    (_I.SUSPECT, _T.BEAT): _I.READY,
    (_I.SUSPECT, _T.DRAIN): _I.DRAINING,
    (_I.SUSPECT, _T.STOP): _I.STOPPED,
    (_I.SUSPECT, _T.SILENT): _I.LOST,
    (_I.READY, _T.STRAINED): _I.DEGRADED,
    (_I.SUSPECT, _T.STRAINED): _I.DEGRADED,
    (_I.DEGRADED, _T.BEAT): _I.READY,
    (_I.DEGRADED, _T.DRAIN): _I.DRAINING,
    (_I.DEGRADED, _T.STOP): _I.STOPPED,
    (_I.DEGRADED, _T.MISSED): _I.SUSPECT,
    (_I.DEGRADED, _T.SILENT): _I.LOST,
    **{
        (state, _T.SUPERSEDE): _I.SUPERSEDED
        for state in (_I.REGISTERING, _I.READY, _I.DRAINING, _I.SUSPECT, _I.DEGRADED)
    },
}


def advance_instance(state: InstanceState, turn: InstanceTurn) -> InstanceState:
    """Return the state after the turn; a turn that means nothing now leaves it as it is."""
    return INSTANCE_RULES.get((state, turn), state)
