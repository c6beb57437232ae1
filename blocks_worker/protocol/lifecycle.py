"""What may follow what: the states of a task and of an instance as tables, and the pure `advance`.

The ledger's statements are these rules as compare-and-set; a test puts every state before every event
and compares the two. `note` and what stands above a member are printed in docs/protocol.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class State(str, Enum):
    """Where a task stands in the ledger."""

    #: waits for a worker with room
    QUEUED = "QUEUED"
    #: one incarnation was asked; of a broadcast agent, all that have room
    OFFERED = "OFFERED"
    #: an incarnation has the lease
    RUNNING = "RUNNING"
    #: the same, and its cancel flag is set
    CANCELLING = "CANCELLING"
    #: a pipe whose time is over: its streams are ended, then it is
    EXPIRING = "EXPIRING"
    #: ended with a result
    COMPLETED = "COMPLETED"
    #: ended with `error` and `errorCode`
    FAILED = "FAILED"
    #: ended by a cancel; `reason` is the caller's text, `terminated` or `drained`; `forced` when the handler did not
    #: return within its grace, whether worker or hub ended it
    CANCELLED = "CANCELLED"
    #: ended for its time: `errorCode` `timeout`, `reason` `deadline`, `queue_ttl`, `max_runtime` or `progress`; a
    #: pipe whose duration is over has `completionReason` `duration_expired` and is shown as `completed`
    EXPIRED = "EXPIRED"


class TaskTurn(str, Enum):
    """What may happen to a task."""

    OFFER = "offer"
    GRANT = "grant"
    CLAIM = "claim"
    WITHDRAW = "withdraw"
    CANCEL = "cancel"
    EXPIRE = "expire"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCELED = "canceled"
    RUN_OUT = "run_out"
    RELEASE = "release"
    TAKE_BACK = "take_back"
    LOSE = "lose"
    FORCE = "force"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    READY = "ready"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED})
#: A worker has the right to speak for the task.
HELD = frozenset({State.RUNNING, State.CANCELLING, State.EXPIRING})

#: What consumers see, but for `PAUSED` and for a pipe whose duration is over.
SHOWN = {
    State.QUEUED: "pending",
    State.OFFERED: "pending",
    State.RUNNING: "running",
    State.CANCELLING: "running",
    State.EXPIRING: "running",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "canceled",
    State.EXPIRED: "failed",
}
#: A task that waits with its pause flag set, or whose handler said that it waits for the resume.
PAUSED = "paused"
#: Every state as consumers see it.
NAMES = frozenset(SHOWN.values()) | {PAUSED}
#: What a `system` event says of one that goes on.
RESUMED = "resumed"
#: What a `system` event says of one whose run failed and that waits for the next one.
QUEUED = "queued"
#: Why a pipe ended whose duration is over: no failure.
DURATION_EXPIRED = "duration_expired"
#: Why a request ended that said nothing within its `progress_timeout`.
PROGRESS = "progress"
#: Why a cancelled task ended whose handler did not return within its grace, whoever ends it.
FORCED = "forced"
#: Whom a task of a broadcast agent is offered to, in place of one incarnation: no incarnation has this name.
EVERYBODY = "*"
#: Why a sub-task is cancelled: the task that asked for it ended, or is to end.
PARENT_ENDED = "parent_ended"
SHOWN_TERMINAL = frozenset({"completed", "failed", "canceled"})


@dataclass(frozen=True)
class TaskFacts:
    """What decides about a task.

    Attributes:
        incarnation: who holds it or is offered it; `EVERYBODY` when all who have room are.
        lost_incarnation: who held it last and lost it, while nobody was offered it since.
        again: it may be run again after a lease was given (a request, delivered at least once).
        pipe: it has a duration.
        paused: its pause flag is set.
        retries: how many of its runs may still fail before it does.
        waits: it was sent with a delay, or a run failed, and the pause before the next run is not over.
    """

    state: State
    epoch: int = 0
    attempt: int = 0
    lost: int = 0
    incarnation: str | None = None
    lost_incarnation: str | None = None
    again: bool = True
    max_lost: int = 3
    pipe: bool = False
    paused: bool = False
    retries: int = 0
    waits: bool = False


class RefusedTurnError(Exception):
    """Say that this cannot happen to a task in that state."""


@dataclass(frozen=True)
class _Rule:
    """Where a turn leads, what it does to the numbers, and when it happens."""

    to: State
    note: str = ""
    epoch: int = 0
    attempt: int = 0
    lost: int = 0
    takes: bool = False
    leaves: bool = False
    remembers: bool = False
    pauses: bool | None = None
    retries: int = 0
    waits: bool | None = None


_Q, _O, _R, _C, _E = State.QUEUED, State.OFFERED, State.RUNNING, State.CANCELLING, State.EXPIRING
_LATE = "late: from the last holder, who lost it, while it was offered to nobody since"

#: (state, turn) -> what follows. What is not here is refused.
TASK_RULES: dict[tuple[State, TaskTurn], _Rule] = {
    (_Q, TaskTurn.OFFER): _Rule(
        _O,
        "somebody has room, it is not paused, and waits for no delay and no retry; events are numbered from 1 again",
        epoch=1,
        takes=True,
    ),
    (_Q, TaskTurn.GRANT): _Rule(
        _R,
        "as above, to one whose link is open; the lease comes with the offer. Never at most once, never a pipe",
        epoch=1,
        attempt=1,
        takes=True,
    ),
    (_O, TaskTurn.CLAIM): _Rule(
        _R,
        "by the incarnation it was offered to, the first of them when several were; the others are told at once",
        attempt=1,
        takes=True,
    ),
    (_O, TaskTurn.WITHDRAW): _Rule(
        _Q, "refused, not claimed in time, or the instance is gone: of several, the last one", leaves=True
    ),
    (_Q, TaskTurn.CANCEL): _Rule(State.CANCELLED, epoch=1, leaves=True),
    (_O, TaskTurn.CANCEL): _Rule(State.CANCELLED, "a claim on its way gets 410", epoch=1, leaves=True),
    (_R, TaskTurn.CANCEL): _Rule(_C, "the flag and its reason; the forced end is due after the grace"),
    (_Q, TaskTurn.EXPIRE): _Rule(State.EXPIRED, "`deadline`, `queue_ttl`", leaves=True),
    (_O, TaskTurn.EXPIRE): _Rule(State.EXPIRED, "`deadline`, `queue_ttl`", leaves=True),
    (_R, TaskTurn.EXPIRE): _Rule(
        State.EXPIRED, "`deadline`, `max_runtime`, `progress`; its worker is told", leaves=True
    ),
    (_R, TaskTurn.COMPLETE): _Rule(State.COMPLETED, leaves=True),
    (_R, TaskTurn.FAIL): _Rule(State.FAILED, leaves=True),
    (_R, TaskTurn.CANCELED): _Rule(State.CANCELLED, leaves=True),
    (_R, TaskTurn.RUN_OUT): _Rule(State.EXPIRED, "a pipe whose worker saw its time run out", leaves=True),
    (_C, TaskTurn.COMPLETE): _Rule(State.COMPLETED, "a result that was made first stands", leaves=True),
    (_C, TaskTurn.FAIL): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.CANCELED): _Rule(State.CANCELLED, leaves=True),
    (_C, TaskTurn.RUN_OUT): _Rule(State.CANCELLED, "the first reason stands", leaves=True),
    (_E, TaskTurn.COMPLETE): _Rule(State.COMPLETED, "a result that was made first stands", leaves=True),
    (_E, TaskTurn.FAIL): _Rule(State.EXPIRED, leaves=True),
    (_E, TaskTurn.CANCELED): _Rule(State.EXPIRED, "the first reason stands", leaves=True),
    (_E, TaskTurn.RUN_OUT): _Rule(State.EXPIRED, leaves=True),
    (_Q, TaskTurn.COMPLETE): _Rule(State.COMPLETED, _LATE, leaves=True),
    (_Q, TaskTurn.FAIL): _Rule(State.FAILED, "late, as above", leaves=True),
    (_Q, TaskTurn.CANCELED): _Rule(State.CANCELLED, "late, as above", leaves=True),
    (_R, TaskTurn.RELEASE): _Rule(_Q, "given back", attempt=-1, leaves=True),
    (_R, TaskTurn.TAKE_BACK): _Rule(_Q, "its worker does not know of it", epoch=1, attempt=-1, leaves=True),
    (_R, TaskTurn.LOSE): _Rule(_Q, "its holder is gone and is remembered", lost=1, leaves=True, remembers=True),
    (_C, TaskTurn.RELEASE): _Rule(State.CANCELLED, "`forced`", leaves=True),
    (_C, TaskTurn.TAKE_BACK): _Rule(State.CANCELLED, "`forced`", leaves=True),
    (_C, TaskTurn.LOSE): _Rule(State.CANCELLED, "`forced`", leaves=True),
    (_C, TaskTurn.FORCE): _Rule(State.CANCELLED, "the grace is over: `forced`", leaves=True),
    **{
        (_E, turn): _Rule(State.EXPIRED, "nobody ends it any more", leaves=True)
        for turn in (TaskTurn.RELEASE, TaskTurn.TAKE_BACK, TaskTurn.LOSE, TaskTurn.FORCE)
    },
    (_Q, TaskTurn.PAUSE): _Rule(_Q, "the flag, told as `paused`; it is not offered", pauses=True),
    (_O, TaskTurn.PAUSE): _Rule(_Q, "withdrawn; a claim on its way gets 409", leaves=True, pauses=True),
    **{(state, TaskTurn.PAUSE): _Rule(state, "the flag; its worker is told", pauses=True) for state in (_R, _C, _E)},
    (_R, TaskTurn.RETRY): _Rule(
        _Q, "failed, and its policy allows another run: not before `readyAt`", leaves=True, retries=-1, waits=True
    ),
    (_Q, TaskTurn.RETRY): _Rule(_Q, "late, as above", leaves=True, retries=-1, waits=True),
    (_Q, TaskTurn.READY): _Rule(_Q, "its delay, or the pause before the next run, is over", waits=False),
    (_Q, TaskTurn.RESUME): _Rule(_Q, "told as `resumed`; it is offered again", pauses=False),
    (_O, TaskTurn.RESUME): _Rule(_O, "nothing was set", pauses=False),
    **{(state, TaskTurn.RESUME): _Rule(state, "the flag; its worker is told", pauses=False) for state in (_R, _C, _E)},
}

#: Where a task goes instead when it may not be run again.
INSTEAD = {
    TaskTurn.RELEASE: _Rule(State.CANCELLED, "at most once, or a pipe (`drained`)", leaves=True),
    TaskTurn.TAKE_BACK: _Rule(State.FAILED, "at most once, or a pipe (`lease_lost`)", leaves=True),
    TaskTurn.LOSE: _Rule(State.FAILED, "at most once, a pipe, or the last of `max_lost` (`lease_lost`)", leaves=True),
    TaskTurn.EXPIRE: _Rule(_E, "a pipe (its duration, or `deadline`); the forced end is due after the grace"),
}

_OUTCOMES = frozenset({TaskTurn.COMPLETE, TaskTurn.FAIL, TaskTurn.CANCELED, TaskTurn.RUN_OUT, TaskTurn.RETRY})


def advance(facts: TaskFacts, turn: TaskTurn, *, by: str | None = None) -> TaskFacts:
    """Return the facts after the turn; `by` is the incarnation that takes, or speaks for, the task.

    Raises:
        RefusedTurnError: the turn cannot happen now, or not to this incarnation.
    """
    rule = TASK_RULES.get((facts.state, turn))
    if rule is None or not _may(facts, turn, by):
        raise RefusedTurnError(f"{turn.value} in {facts.state.value}")
    if facts.state is _R and turn in INSTEAD and _goes_elsewhere(facts, turn):
        rule = INSTEAD[turn]
    return _apply(facts, rule, by)


def _goes_elsewhere(facts: TaskFacts, turn: TaskTurn) -> bool:
    if turn is TaskTurn.EXPIRE:
        return facts.pipe
    given_up = turn is TaskTurn.LOSE and facts.lost + 1 >= facts.max_lost
    return given_up or not facts.again


def _may(facts: TaskFacts, turn: TaskTurn, by: str | None) -> bool:
    if turn in {TaskTurn.OFFER, TaskTurn.GRANT}:
        is_free = by is not None and not facts.paused and not facts.waits
        return is_free and (turn is TaskTurn.OFFER or facts.again)
    if turn is TaskTurn.READY:
        return facts.waits
    if (turn is TaskTurn.RUN_OUT and not facts.pipe) or (turn is TaskTurn.RETRY and not _has_retry(facts)):
        return False
    if turn in _OUTCOMES and facts.state is _Q:
        return by is not None and facts.lost_incarnation == by
    if turn in {TaskTurn.CLAIM, TaskTurn.RELEASE} | _OUTCOMES:
        return facts.incarnation == by or (turn is TaskTurn.CLAIM and facts.incarnation == EVERYBODY)
    return True


def _has_retry(facts: TaskFacts) -> bool:
    return facts.again and facts.retries > 0


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
        paused=facts.paused if rule.pauses is None else rule.pauses,
        retries=facts.retries + rule.retries,
        waits=facts.waits and rule.to not in TERMINAL if rule.waits is None else rule.waits,
    )


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
