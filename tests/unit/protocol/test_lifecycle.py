from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.protocol.lifecycle import (
    INSTANCE_GONE,
    SHOWN,
    TASK_RULES,
    TERMINAL,
    InstanceState,
    InstanceTurn,
    RefusedTurnError,
    State,
    TaskFacts,
    TaskTurn,
    advance,
    advance_instance,
)

turns = st.tuples(st.sampled_from(TaskTurn), st.sampled_from(["one", "two"]))


@given(st.lists(turns, max_size=60), st.booleans())
def test_whatever_happens_the_numbers_stay_sound(story: list[tuple[TaskTurn, str]], again: bool) -> None:
    """The epoch never falls, a task has a holder exactly while it is offered or held, and an end is an end."""
    facts = TaskFacts(State.QUEUED, again=again, retries=2)
    for turn, by in story:
        before = facts
        try:
            facts = advance(facts, turn, by=by)
        except RefusedTurnError:
            continue

        assert before.state not in TERMINAL
        assert facts.epoch >= before.epoch
        assert facts.attempt >= 0
        assert facts.lost <= facts.max_lost
        assert 0 <= facts.retries <= before.retries
        assert not facts.waits or facts.state is State.QUEUED
        assert (facts.incarnation is not None) == (facts.state in {State.OFFERED, State.RUNNING, State.CANCELLING})


@pytest.mark.parametrize(("state", "turn"), list(product(sorted(TERMINAL), TaskTurn)))
def test_nothing_follows_an_end(state: State, turn: TaskTurn) -> None:
    """A terminal state is left by nothing."""
    with pytest.raises(RefusedTurnError):
        advance(TaskFacts(state, incarnation="one", lost_incarnation="one"), turn, by="one")


def test_every_state_is_reached_and_shown() -> None:
    """The table leads to each state, and consumers have a word for each."""
    assert {rule.to for rule in TASK_RULES.values()} | {State.QUEUED} == set(State)
    assert set(SHOWN) == set(State)


def test_at_most_once_is_never_queued_again_after_a_lease() -> None:
    """Lost, taken back or given back, such a task ends. [B21] [I11]"""
    held = TaskFacts(State.RUNNING, epoch=1, attempt=1, incarnation="one", again=False)

    assert advance(held, TaskTurn.LOSE).state is State.FAILED
    assert advance(held, TaskTurn.TAKE_BACK).state is State.FAILED
    assert advance(held, TaskTurn.RELEASE, by="one").state is State.CANCELLED


def test_the_third_loss_gives_up() -> None:
    """A task that kills its worker each time is not run for ever. [B15]"""
    facts = TaskFacts(State.RUNNING, epoch=3, attempt=3, lost=2, incarnation="one")

    assert advance(facts, TaskTurn.LOSE).state is State.FAILED


def test_a_late_result_counts_until_the_task_is_offered_again() -> None:
    """The last holder may still report; once somebody else was offered the task it may not."""
    lost = advance(TaskFacts(State.RUNNING, epoch=1, attempt=1, incarnation="one"), TaskTurn.LOSE)

    assert advance(lost, TaskTurn.COMPLETE, by="one").state is State.COMPLETED

    offered = advance(lost, TaskTurn.OFFER, by="two")
    with pytest.raises(RefusedTurnError):
        advance(offered, TaskTurn.COMPLETE, by="one")


def test_only_the_holder_speaks_for_the_task() -> None:
    """Another incarnation can neither claim nor end it."""
    offered = TaskFacts(State.OFFERED, epoch=1, incarnation="one")

    with pytest.raises(RefusedTurnError):
        advance(offered, TaskTurn.CLAIM, by="two")

    held = advance(offered, TaskTurn.CLAIM, by="one")
    with pytest.raises(RefusedTurnError):
        advance(held, TaskTurn.COMPLETE, by="two")


def test_a_result_made_before_the_cancel_stands() -> None:
    """Cancelling a task whose handler is done does not undo the result. [B6]"""
    cancelling = advance(TaskFacts(State.RUNNING, epoch=1, incarnation="one"), TaskTurn.CANCEL)

    assert cancelling.state is State.CANCELLING
    assert advance(cancelling, TaskTurn.COMPLETE, by="one").state is State.COMPLETED
    assert advance(cancelling, TaskTurn.FAIL, by="one").state is State.CANCELLED


@pytest.mark.parametrize(("state", "turn"), list(product(sorted(INSTANCE_GONE), InstanceTurn)))
def test_an_instance_that_is_gone_stays_gone(state: InstanceState, turn: InstanceTurn) -> None:
    """A gone incarnation never comes back."""
    assert advance_instance(state, turn) is state


_ALIVE = ("REGISTERING", "READY", "DRAINING", "SUSPECT", "DEGRADED")
#: Where each turn leads a living instance, in the order above; what is not said changes nothing.
_LEADS: dict[str, tuple[str | None, ...]] = {
    "PROVED": ("READY", None, None, None, None),
    "BEAT": (None, None, None, "READY", "READY"),
    "STRAINED": (None, "DEGRADED", None, "DEGRADED", None),
    "MISSED": (None, "SUSPECT", None, None, "SUSPECT"),
    "SILENT": ("LOST",) * 5,
    "DRAIN": ("DRAINING", "DRAINING", None, "DRAINING", "DRAINING"),
    "STOP": ("STOPPED",) * 5,
    "SUPERSEDE": ("SUPERSEDED",) * 5,
}


@pytest.mark.parametrize("turn", InstanceTurn)
def test_each_turn_of_a_living_instance(turn: InstanceTurn) -> None:
    """Every pair of a living state and a turn leads where the protocol says, or changes nothing."""
    assert set(_LEADS) == set(InstanceTurn.__members__)
    for state, to in zip(_ALIVE, _LEADS[turn.name], strict=True):
        assert advance_instance(InstanceState[state], turn) is InstanceState[to or state]


def test_an_instance_that_misses_beats_and_speaks_again_is_ready() -> None:
    """A late heartbeat mends what missing ones did."""
    suspect = advance_instance(InstanceState.READY, InstanceTurn.MISSED)

    assert advance_instance(suspect, InstanceTurn.BEAT) is InstanceState.READY
    assert advance_instance(suspect, InstanceTurn.SILENT) is InstanceState.LOST
