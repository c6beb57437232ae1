"""Slots and the held list."""

from __future__ import annotations

import threading

from blocks_worker.concurrency import Deadline
from blocks_worker.protocol.control import StartTask
from blocks_worker.worker.outbox import Outbox
from blocks_worker.worker.run import Run
from blocks_worker.worker.running import Running


def run_of(task: str, epoch: int = 1) -> Run:
    """Return a run."""
    return Run(StartTask(task_id=task, epoch=epoch, digest="d"), Outbox((task, epoch)), 0.0)


def keys(running: Running) -> list[tuple[str, int]]:
    """Return the held list, in short."""
    return [(held.task_id, held.epoch) for held in running.held_list()]


def test_a_task_is_held_until_the_hub_answered() -> None:
    """The slot comes back with the thread, the task leaves the list with the answer. [R7]"""
    running = Running(1)
    run = run_of("a")
    running.reserve(run)
    running.slot_back(run)

    assert (running.free(), keys(running), running.active_tasks()) == (1, [("a", 1)], [])
    running.answered(run.key)
    assert keys(running) == []


def test_a_slot_comes_back_once() -> None:
    """A thread that was given up and returns later frees nothing that another run has."""
    running = Running(1)
    old, new = run_of("a"), run_of("b")
    running.reserve(old)
    running.slot_back(old)
    running.reserve(new)
    running.slot_back(old)

    assert running.free() == 0


def test_a_task_may_be_held_in_two_epochs() -> None:
    """A fenced run that still has its thread does not keep the new epoch from coming here."""
    running = Running(2)
    old, new = run_of("a", 1), run_of("a", 2)

    assert running.reserve(old)
    running.answered(old.key)
    assert running.reserve(new)
    assert running.find(("a", 2)) is new


def test_wait_idle_ends_with_the_last_slot() -> None:
    """Who waits for empty slots is woken by the last of them."""
    running = Running(1)
    run = run_of("a")
    running.reserve(run)
    threading.Timer(0.05, running.slot_back, [run]).start()

    assert running.wait_idle(Deadline(5))


def test_wait_idle_ends_by_hurry_and_by_deadline() -> None:
    """A second signal or the deadline ends the wait, with the slots still taken."""
    running = Running(1)
    running.reserve(run_of("a"))
    hurry = threading.Event()
    hurry.set()

    assert not running.wait_idle(Deadline(60), hurry)
    assert not running.wait_idle(Deadline(0))


def test_who_waits_takes_no_slot_and_goes_on_in_turn() -> None:
    """A parked run frees its slot; the first that may go on has the next free one, before any offer."""
    running = Running(1)
    first, second, third = run_of("a"), run_of("b"), run_of("c")
    for run in (first, second):
        assert running.reserve(run)
        running.park(run)
    assert running.reserve(third)

    assert [held.parked for held in running.held_list()] == [True, True, False]
    assert not running.may_go_on(second)
    assert not running.may_go_on(first)
    running.slot_back(third)
    assert not running.reserve(run_of("d"))
    assert not running.may_go_on(first)
    assert running.may_go_on(second)
    running.slot_back(second)
    assert running.may_go_on(first)


def test_who_is_to_stop_goes_on_without_a_slot() -> None:
    """Its last steps are short: it does not wait until another has finished, and the slot count comes right again."""
    running = Running(1)
    waiting, other = run_of("a"), run_of("b")
    running.reserve(waiting)
    running.park(waiting)
    running.reserve(other)
    waiting.wake()
    running.wait_for_slot(waiting)

    assert running.free() == 0
    running.slot_back(other)
    assert running.free() == 0
    running.slot_back(waiting)
    assert running.free() == 1


def test_what_takes_no_slot_is_bounded() -> None:
    """Beyond their bounds who waits, and pipes that are open, count as slots, here and in the list."""
    running = Running(1, max_waiting=1, max_open_pipes=1)
    for name in ("a", "b"):
        run = run_of(name)
        assert running.reserve(run)
        running.park(run)
    assert running.free() == 0
    assert [held.parked for held in running.held_list()] == [True, False]

    pipes = Running(2, max_open_pipes=1)
    for name in ("a", "b"):
        run = run_of(name)
        assert pipes.reserve(run)
        pipes.open_pipe(run)
        pipes.slot_back(run)
    assert pipes.free() == 1
    assert [held.parked for held in pipes.held_list()] == [True, False]
    pipes.answered(("a", 1))
    assert pipes.free() == 2


def test_who_waits_for_an_answer_is_told_of_it() -> None:
    """An end that the hub has answered is over for whoever waits; so is everything when the instance ends."""
    running = Running(2)
    run = run_of("a")
    running.reserve(run)

    assert not running.wait_answered(run.key, Deadline(0.01))
    running.answered(run.key)
    assert running.wait_answered(run.key, Deadline(5))
    running.reserve(run_of("b"))
    running.close()
    assert not running.wait_answered(("b", 1), Deadline(None))


def test_of_those_that_wait_only_some_may_ask() -> None:
    """[J18] Questions keep their slots while there is room for others that wait: a resume is not held up by them."""
    running = Running(4, max_waiting=3, max_asking=1)
    runs = [run_of(name) for name in "abcd"]
    for run, asks in zip(runs, (True, True, False, True), strict=True):
        assert running.reserve(run)
        running.park(run, asks=asks)

    assert [held.parked for held in running.held_list()] == [True, False, True, False]
    assert running.free() == 2

    assert running.may_go_on(runs[0])
    assert [held.parked for held in running.held_list()] == [False, True, True, False]


def test_the_held_list_names_what_is_asked() -> None:
    """The hub answers a question that the list names."""
    running = Running(1)
    run = run_of("a")
    running.reserve(run)
    run.answers.open("ask-1")
    assert [held.asks for held in running.held_list()] == ["ask-1"]
    run.answers.close()
    assert [held.asks for held in running.held_list()] == [None]
