"""What is taken, left and sent back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.protocol.control import GrantedLease, StartTask
from blocks_worker.worker.dispatcher import SEEN_MAX, SEEN_SECONDS, Accept, Dispatcher, Ignore, Nack
from blocks_worker.worker.running import Running


def offer(task: str = "t", epoch: int = 1) -> StartTask:
    """Return an offer."""
    return StartTask(task_id=task, epoch=epoch, digest="d")


def test_the_first_offer_is_taken_and_its_repeat_left() -> None:
    """A repeat is a duplicate, also after the run has ended. [B1]"""
    running = Running(1)
    dispatcher = Dispatcher(running)
    first = dispatcher.offer(offer(), 0.0)

    assert isinstance(first, Accept)
    assert dispatcher.offer(offer(), 1.0) == Ignore("duplicate")
    running.slot_back(first.run)
    running.answered(first.run.key)
    assert dispatcher.offer(offer(), 2.0) == Ignore("duplicate")


def test_what_was_seen_is_forgotten_in_the_end() -> None:
    """After ten minutes an offer of the same epoch is claimed again; the hub then decides."""
    running = Running(1)
    dispatcher = Dispatcher(running)
    first = dispatcher.offer(offer(), 0.0)
    assert isinstance(first, Accept)
    running.slot_back(first.run)
    running.answered(first.run.key)

    assert isinstance(dispatcher.offer(offer(), SEEN_SECONDS + 1), Accept)


def test_no_slot_means_a_refusal_that_is_not_remembered() -> None:
    """A full worker never queues; the same offer is taken once there is room. [B19, B20]"""
    running = Running(1)
    dispatcher = Dispatcher(running)
    first = dispatcher.offer(offer("a"), 0.0)
    assert isinstance(first, Accept)

    assert dispatcher.offer(offer("b"), 0.0) == Nack("agent_at_capacity")
    running.slot_back(first.run)
    assert isinstance(dispatcher.offer(offer("b"), 0.0), Accept)


def test_a_cancel_before_the_offer_leaves_a_tombstone() -> None:
    """The offer of a cancelled epoch is not taken when it comes late; a newer epoch is. [B3]"""
    dispatcher = Dispatcher(Running(1))
    dispatcher.cancelled(("t", 2), 0.0)

    assert dispatcher.offer(offer(epoch=1), 1.0) == Ignore("cancelled")
    assert dispatcher.offer(offer(epoch=2), 1.0) == Ignore("cancelled")
    assert isinstance(dispatcher.offer(offer(epoch=3), 1.0), Accept)


def test_what_was_given_and_cancelled_before_is_claimed() -> None:
    """A task that is ours already has to be ended: it is taken, and claimed to hear of the cancel."""
    dispatcher = Dispatcher(Running(1))
    dispatcher.cancelled(("t", 1), 0.0)
    lease = GrantedLease(lease="l", attempt=1, max_runtime=9.0, hub_time=0)
    taken = dispatcher.offer(StartTask(task_id="t", epoch=1, digest="d", granted=lease), 1.0)

    assert isinstance(taken, Accept)
    assert taken.run.offer.granted is None


def test_a_closed_dispatcher_refuses() -> None:
    """While draining every offer goes back."""
    dispatcher = Dispatcher(Running(1))
    dispatcher.close()

    assert dispatcher.offer(offer(), 0.0) == Nack("draining")


def test_memory_is_bounded() -> None:
    """Ten thousand offers and cancels are remembered, the oldest go first."""
    running = Running(SEEN_MAX * 3)
    dispatcher = Dispatcher(running)
    for number in range(SEEN_MAX + 10):
        dispatcher.offer(offer(str(number)), 0.0)
        dispatcher.cancelled((f"c{number}", 1), 0.0)

    assert len(dispatcher._seen) <= SEEN_MAX
    assert len(dispatcher._tombstones) <= SEEN_MAX


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans())))
def test_accepted_runs_never_outnumber_slots(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever comes in whatever order: accepted and not yet returned is at most the slots, and no key twice. [R-50]"""
    running = Running(2)
    dispatcher = Dispatcher(running)
    accepted: list[tuple[str, int]] = []
    for task, epoch, returns in steps:
        decision = dispatcher.offer(offer(task, epoch), 0.0)
        if isinstance(decision, Accept):
            accepted.append(decision.run.key)
        if returns and running.busy():
            running.slot_back(running.busy()[0])

        assert len(running.busy()) <= 2
        assert len(accepted) == len(set(accepted))
        assert running.free() == 2 - len(running.busy())
