"""The steps of a run on their way to the hub: once each, in order, before the end of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.errors import StepError, TaskFinishedError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.control import StartTask
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.steps import MAX_STEP, REPORT_STEPS, Step
from blocks_worker.worker.outbox import HOLD, Outbox
from blocks_worker.worker.run import Ending, Run

if TYPE_CHECKING:
    from blocks_worker.protocol.leases import Report

ROOM = 640 * 1024


def outbox() -> Outbox:
    """Return an open one."""
    box = Outbox(("t", 1))
    box.open("lease", 0.0)
    return box


def take(box: Outbox, now: float = 0.0, room: int = ROOM) -> Report:
    """Return the next report."""
    taken = box.take(now, room)
    assert taken is not None
    return taken[0]


def names(report: Report) -> list[str]:
    """Return which steps a report has."""
    return [step.name for step in report.steps]


def step(name: str, value: bytes) -> Step:
    """Return a step as the hub tells it."""
    return Step(name=name, value=msgspec.Raw(value))


def test_a_step_goes_at_once_with_what_was_said_before() -> None:
    """Whoever did it waits: it does not wait for the outcome as events do, and takes them along."""
    box = outbox()
    box.append(encode(EventBody(type="progress", message="x")))
    assert box.due_at() == HOLD
    box.add_step("a", b"1")
    report = take(box)

    assert (names(report), [event.n for event in report.events], report.outcome) == (["a"], [1], None)


def test_what_the_hub_says_is_stored_counts() -> None:
    """[J19] First writer wins: the run goes on with what the hub has, and the name is known from then on."""
    box = outbox()
    box.add_step("a", b"mine")
    box.add_step("a", b"other")
    report = take(box)
    assert box.steps.stored("a") is None
    box.answered(report, [step("a", b"theirs")])
    box.add_step("a", b"again")

    assert [bytes(one.value) for one in report.steps] == [b"mine"]
    assert (box.steps.stored("a"), box.steps.count, box.due_at()) == (b"theirs", 1, None)


def test_a_hub_that_says_nothing_has_stored_nothing() -> None:
    """A hub without steps leaves the field out: who waits is told, and it is not sent for ever."""
    box = outbox()
    box.add_step("a", b"1")
    box.answered(take(box))

    with pytest.raises(StepError, match="has to be updated"):
        box.steps.wait(Run(StartTask(task_id="t", epoch=1, digest="d"), box, 0.0), "a")
    assert box.due_at() is None


def test_steps_that_are_first_asked_for_after_the_end_are_over() -> None:
    """Most runs have none, so they are made late: whoever waits there then is not left waiting."""
    box = outbox()
    box.drop()

    with pytest.raises(TaskFinishedError):
        box.steps.wait(Run(StartTask(task_id="t", epoch=1, digest="d"), box, 0.0), "a")


def test_the_end_comes_behind_all_steps() -> None:
    """More steps than one report takes go in several, and only the last of them has events and the end."""
    box = outbox()
    for number in range(REPORT_STEPS + 2):
        box.add_step(str(number), b"1")
    box.append(encode(EventBody(type="progress", message="x")))
    box.release(0.0)
    kept = take(box)
    box.answered(kept, kept.steps)
    last = take(box)

    assert (len(kept.steps), kept.events, kept.release) == (REPORT_STEPS, [], False)
    assert (names(last), len(last.events), last.release) == (["16", "17"], 1, True)
    assert box.answered(last, last.steps)


def test_steps_count_as_bytes_of_a_report() -> None:
    """Large ones are cut at the room of a request, one goes in any case; nothing is left out of a file for later."""
    box = outbox()
    for number in range(3):
        box.add_step(str(number), b'"%s"' % (b"x" * (MAX_STEP - 2)))
    box.finish(Ending("completed"), 0.0)
    reports = box.unanswered(2 * MAX_STEP)

    assert [names(report) for report in reports] == [["0", "1"], ["2"]]
    assert [report.outcome is not None for report in reports] == [False, True]
    assert names(take(box, room=10)) == ["0"]


def test_a_refused_step_fails_the_run() -> None:
    """What the hub cannot take is dropped, and the run ends as it is told."""
    box = outbox()
    box.add_step("a", b"1")

    assert box.refused(take(box), Ending("failed", error_code="bad_result"), 0.0)
    report = take(box)
    assert (report.steps, report.outcome and report.outcome.state) == ([], "failed")
    assert not box.is_open


@given(st.lists(st.sampled_from(["step", "emit", "send", "lose reply", "lose request"]), max_size=40))
def test_through_any_loss_the_first_value_stays(acts: list[str]) -> None:
    """[J19] Whatever is lost and sent again: the hub has each step once, and the run is told just that value."""
    box, stored, done = outbox(), dict[str, bytes](), 0

    for act in [*acts, "send", "send", "send"]:
        if act == "step":
            done += 1
            box.add_step(f"s{done % 5}", b"%d" % done)
        elif act == "emit":
            box.append(encode(EventBody(type="progress", message="x")))
        elif (taken := box.take(100.0, ROOM)) is not None and act != "lose request":
            report = taken[0]
            for one in report.steps:
                stored.setdefault(one.name, bytes(one.value))
            if act == "send":
                box.answered(report, [step(one.name, stored[one.name]) for one in report.steps])

    assert {name: box.steps.stored(name) for name in stored} == stored
    assert len(stored) == box.steps.count == min(done, 5)
