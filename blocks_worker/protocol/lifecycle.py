"""What may follow what: the states of a task and of an instance as tables, and the pure `advance`.

The ledger's statements are these rules as compare-and-set; a test puts every state before every event
and compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class State(str, Enum):
    """Where a task stands in the ledger."""

    QUEUED = "QUEUED"
    OFFERED = "OFFERED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class TaskTurn(str, Enum):
    """What may happen to a task."""

    OFFER = "offer"
    CLAIM = "claim"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"
    EXPIRE = "expire"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCELED = "canceled"
    RELEASE = "release"
    TAKE_BACK = "take_back"
    LOSE = "lose"
    FORCE = "force"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED})
#: A worker has the right to speak for the task.
HELD = frozenset({State.RUNNING, State.CANCELLING})

#: What consumers see.
SHOWN = {
    State.QUEUED: "pending",
    State.OFFERED: "pending",
    State.RUNNING: "running",
    State.CANCELLING: "running",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "canceled",
    State.EXPIRED: "failed",
}
#: Why a cancelled task ended whose handler did not return within its grace, whoever ends it.
FORCED = "forced"
SHOWN_TERMINAL = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True)
class TaskFacts:
    """What decides about a task.

    Attributes:
        incarnation: who holds it or is offered it.
        lost_incarnation: who held it last and lost it, while nobody was offered it since.
        again: it may be run again after a lease was given (delivery is at least once).
    """

    state: State
    epoch: int = 0
    attempt: int = 0
    lost: int = 0
    incarnation: str | None = None
    lost_incarnation: str | None = None
    again: bool = True
    max_lost: int = 3


class RefusedTurnError(Exception):
    """Say that this cannot happen to a task in that state."""


@dataclass(frozen=True)
class _Rule:
    """Where a turn leads, and what it does to the numbers."""

    to: State
    epoch: int = 0
    attempt: int = 0
    lost: int = 0
    takes: bool = False
    leaves: bool = False
    remembers: bool = False


_Q, _O, _R, _C = State.QUEUED, State.OFFERED, State.RUNNING, State.CANCELLING

#: (state, turn) -> what follows. What is not here is refused.
TASK_RULES: dict[tuple[State, TaskTurn], _Rule] = {
    (_Q, TaskTurn.OFFER): _Rule(_O, epoch=1, takes=True),
    (_O, TaskTurn.CLAIM): _Rule(_R, attempt=1),
    (_O, TaskTurn.WITHDRAW): _Rule(_Q, leaves=True),
    (_Q, TaskTurn.CANCEL): _Rule(State.CANCELLED, epoch=1, leaves=True),
    (_O, TaskTurn.CANCEL): _Rule(State.CANCELLED, epoch=1, leaves=True),
    (_R, TaskTurn.CANCEL): _Rule(_C),
    (_Q, TaskTurn.EXPIRE): _Rule(State.EXPIRED, leaves=True),
    (_O, TaskTurn.EXPIRE): _Rule(State.EXPIRED, leaves=True),
    (_R, TaskTurn.EXPIRE): _Rule(State.EXPIRED, leaves=True),
    (_R, TaskTurn.COMPLETE): _Rule(State.COMPLETED, leaves=True),
    (_R, TaskTurn.FAIL): _Rule(State.FAILED, leaves=True),
    (_R, TaskTurn.CANCELED): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.COMPLETE): _Rule(State.COMPLETED, leaves=True),
    (_C, TaskTurn.FAIL): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.CANCELED): _Rule(State.CANCELLED, leaves=True),
    # A result that comes late, from the last holder, before the task was offered to anybody else.
    (_Q, TaskTurn.COMPLETE): _Rule(State.COMPLETED, leaves=True),
    (_Q, TaskTurn.FAIL): _Rule(State.FAILED, leaves=True),
    (_Q, TaskTurn.CANCELED): _Rule(State.CANCELLED, leaves=True),
    (_R, TaskTurn.RELEASE): _Rule(_Q, attempt=-1, leaves=True),
    (_R, TaskTurn.TAKE_BACK): _Rule(_Q, epoch=1, attempt=-1, leaves=True),
    (_R, TaskTurn.LOSE): _Rule(_Q, lost=1, leaves=True, remembers=True),
    (_C, TaskTurn.RELEASE): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.TAKE_BACK): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.LOSE): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.FORCE): _Rule(State.CANCELLED, leaves=True),
}

#: Where a task goes instead when it may not be run again.
_INSTEAD = {
    TaskTurn.RELEASE: _Rule(State.CANCELLED, leaves=True),
    TaskTurn.TAKE_BACK: _Rule(State.FAILED, leaves=True),
    TaskTurn.LOSE: _Rule(State.FAILED, leaves=True),
}

_OUTCOMES = frozenset({TaskTurn.COMPLETE, TaskTurn.FAIL, TaskTurn.CANCELED})


def advance(facts: TaskFacts, turn: TaskTurn, *, by: str | None = None) -> TaskFacts:
    """Return the facts after the turn; `by` is the incarnation that takes, or speaks for, the task.

    Raises:
        RefusedTurnError: the turn cannot happen now, or not to this incarnation.
    """
    rule = TASK_RULES.get((facts.state, turn))
    if rule is None or not _may(facts, turn, by):
        raise RefusedTurnError(f"{turn.value} in {facts.state.value}")
    given_up = turn is TaskTurn.LOSE and facts.lost + 1 >= facts.max_lost
    if facts.state is _R and turn in _INSTEAD and (given_up or not facts.again):
        rule = _INSTEAD[turn]
    return _apply(facts, rule, by)


def _may(facts: TaskFacts, turn: TaskTurn, by: str | None) -> bool:
    if turn is TaskTurn.OFFER:
        return by is not None
    if turn in _OUTCOMES and facts.state is _Q:
        return by is not None and facts.lost_incarnation == by
    if turn in {TaskTurn.CLAIM, TaskTurn.RELEASE} | _OUTCOMES:
        return facts.incarnation == by
    return True


def _apply(facts: TaskFacts, rule: _Rule, by: str | None) -> TaskFacts:
    holder = by if rule.takes else None if rule.leaves else facts.incarnation
    lost_holder = facts.incarnation if rule.remembers else None if rule.takes or rule.leaves else facts.lost_incarnation
    return replace(
        facts,
        state=rule.to,
        epoch=facts.epoch + rule.epoch,
        attempt=facts.attempt + rule.attempt,
        lost=facts.lost + rule.lost,
        incarnation=holder,
        lost_incarnation=lost_holder,
    )


class InstanceState(str, Enum):
    """Where an instance stands with the hub."""

    REGISTERING = "registering"
    READY = "ready"
    DRAINING = "draining"
    SUSPECT = "suspect"
    STOPPED = "stopped"
    LOST = "lost"
    SUPERSEDED = "superseded"


class InstanceTurn(str, Enum):
    """What may happen to an instance."""

    PROVED = "proved"
    DRAIN = "drain"
    STOP = "stop"
    MISSED = "missed"
    BEAT = "beat"
    SILENT = "silent"
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
    **{(state, _T.SUPERSEDE): _I.SUPERSEDED for state in (_I.REGISTERING, _I.READY, _I.DRAINING, _I.SUSPECT)},
}


def advance_instance(state: InstanceState, turn: InstanceTurn) -> InstanceState:
    """Return the state after the turn; a turn that means nothing now leaves it as it is."""
    return INSTANCE_RULES.get((state, turn), state)
