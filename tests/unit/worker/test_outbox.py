"""What a run says: numbered, kept until answered, ended once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.errors import MessageTooLargeError, TaskFinishedError
from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.events import MAX_EVENT, EventBody
from blocks_worker.protocol.leases import MAX_ERROR
from blocks_worker.worker.outbox import BUFFER_EVENTS, HOLD, Outbox
from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from blocks_worker.protocol.leases import Report

DONE = Ending("completed")
ROOM = 640 * 1024


def outbox() -> Outbox:
    """Return an open one."""
    box = Outbox(("t", 1))
    box.open("lease", 0.0)
    return box


def body(text: str = "x") -> bytes:
    """Return an event."""
    return encode(EventBody(type="progress", message=text))


def take(box: Outbox, now: float = 100.0) -> Report:
    """Return the next report."""
    taken = box.take(now, ROOM)
    assert taken is not None
    return taken[0]


def test_a_short_run_is_one_report() -> None:
    """Events wait a moment for the outcome; with it they go at once."""
    box = outbox()
    box.append(body())

    assert box.take(0.0, ROOM) is None
    assert box.due_at() == HOLD
    box.finish(DONE, 0.001)
    report = take(box, 0.001)
    assert ([event.n for event in report.events], report.outcome and report.outcome.last_n) == ([1], 1)


def test_the_first_ending_counts() -> None:
    """A second ending changes nothing, whatever it is."""
    box = outbox()

    assert box.finish(DONE, 0.0)
    assert not box.finish(Ending("failed"), 0.0)
    assert not box.release(0.0)
    assert not box.drop()


def test_nothing_is_said_after_the_end() -> None:
    """Who emits after the end is told."""
    box = outbox()
    box.finish(DONE, 0.0)

    with pytest.raises(TaskFinishedError):
        box.append(body())
    with pytest.raises(TaskFinishedError):
        box.latest(EventBody(type="progress", message="x"), 0.0)


def test_an_event_that_no_hub_takes_is_refused_here() -> None:
    """One byte over the limit raises in its caller."""
    box = outbox()
    spare = MAX_EVENT - len(body(""))
    box.append(body("x" * spare))

    with pytest.raises(MessageTooLargeError):
        box.append(body("x" * (spare + 1)))


def test_a_repeat_has_the_same_digest_and_another_outcome_another() -> None:
    """The digest names epoch and outcome. [B10, B11]"""
    one, same, other = outbox(), outbox(), outbox()
    one.finish(DONE, 0.0)
    same.finish(DONE, 5.0)
    other.finish(Ending("failed"), 0.0)
    digests = [outcome.digest for box in (one, same, other) if (outcome := take(box).outcome)]

    assert digests[0] == digests[1] != digests[2]


def test_a_status_waits_its_second_and_the_newest_goes() -> None:
    """One a second; a fraction and a text that wait are said together."""
    box = outbox()
    box.latest(EventBody(type="progress", message="a"), 10.0)
    box.latest(EventBody(type="progress", progress=0.5), 10.1)
    box.latest(EventBody(type="progress", message="b"), 10.2)
    first = take(box, 10.5)
    box.answered(first)

    assert [event.n for event in first.events] == [1]
    assert box.take(10.9, ROOM) is None
    assert box.due_at() == 11.0
    second = decode_trusted(EventBody, bytes(take(box, 11.0).events[0].body))
    assert (second.progress, second.message) == (0.5, "b")


def test_a_status_that_waits_goes_ahead_of_what_follows_it() -> None:
    """What is said for good comes behind the status before it, and the next status has its second to wait."""
    box = outbox()
    for number, now in enumerate((10.0, 10.1, 10.2)):
        box.latest(EventBody(type="progress", message=f"s{number}"), now)
    box.append(body("kept"))
    box.latest(EventBody(type="progress", message="s3"), 10.3)
    said = [decode_trusted(EventBody, bytes(event.body)).message for event in take(box, 10.4).events]

    assert said == ["s0", "s2", "kept"]
    assert box.due_at() == HOLD


def test_the_buffer_says_when_it_is_full() -> None:
    """So many unanswered events, then who emits has to wait."""
    box = outbox()
    for _ in range(BUFFER_EVENTS):
        assert not box.is_full
        box.append(body())

    assert box.is_full
    box.answered(take(box))
    assert not box.is_full


def test_a_refused_event_fails_the_run_without_it() -> None:
    """What the hub cannot take is dropped with all after it, and the run ends failed at what was stored."""
    box = outbox()
    box.append(body("good"))
    box.answered(take(box))
    box.append(body("bad"))
    box.finish(DONE, 0.0)
    assert box.refused(take(box), Ending("failed", error_code="bad_result"), 0.0)
    outcome = take(box).outcome

    assert outcome is not None
    assert (outcome.state, outcome.last_n) == ("failed", 1)


@pytest.mark.parametrize("character", ["x", "\x01", '"', "\U0001f600", "\ud800", "\0"])
@pytest.mark.parametrize("length", [1, 1365, 8192, 100_000])
def test_hostile_texts_are_made_to_fit(character: str, length: int) -> None:
    """An error text of any length and content can travel; one that is short enough as JSON travels whole. [C6]"""
    box = outbox()
    box.finish(Ending("failed", error=character * length), 0.0)
    taken = box.take(100.0, ROOM)

    assert taken is not None
    report, size = taken
    assert size == len(encode(report)) < MAX_ERROR + 300
    assert report.outcome is not None
    error = report.outcome.error
    assert error is not None
    is_whole = len(encode(character.encode(errors="replace").decode().replace("\0", "\ufffd"))) - 2
    assert error.endswith("…") == (is_whole * length > MAX_ERROR)


def test_an_outcome_that_is_refused_ends_as_a_short_failure_once() -> None:
    """What the hub takes in no form is not said for ever."""
    box = outbox()
    box.finish(Ending("failed", error="x" * 9000), 0.0)

    assert box.refused(take(box), Ending("failed", error="refused", error_code="bad_result"), 0.0)
    outcome = take(box).outcome
    assert outcome is not None
    assert (outcome.error, outcome.last_n) == ("refused", 0)
    assert not box.refused(take(box), Ending("failed"), 0.0)


@given(st.lists(st.sampled_from(["emit", "send", "lose reply", "lose request", "hole"]), max_size=60))
def test_a_hub_gets_every_event_once_and_in_order(steps: list[str]) -> None:
    """Through any loss of requests and replies the hub's row has 1…last_n, and the outcome after them. [A1, A2, B16]"""
    box, stored, sent, ended = outbox(), list[str](), 0, False

    def hub(report: Report) -> int | None:
        new = [event for event in report.events if event.n > len(stored)]
        if new and new[0].n != len(stored) + 1:
            return len(stored) + 1
        stored.extend(decode_trusted(EventBody, bytes(event.body)).message or "" for event in new)
        return None

    for step in [*steps, "end", "send", "send"]:
        if step == "emit":
            sent += 1
            box.append(body(str(sent)))
        elif step == "end":
            box.finish(DONE, 200.0)
        else:
            taken = box.take(100.0 if step != "send" else 300.0, 40)
            if taken is None or step == "lose request":
                continue
            expected = hub(taken[0])
            assert expected is None
            if step == "lose reply":
                continue
            if step == "hole":
                assert box.expected(len(stored) + 1)
                continue
            ended = box.answered(taken[0])
    while not ended:
        report = take(box, 300.0)
        assert hub(report) is None
        ended = box.answered(report)

    assert stored == [str(number) for number in range(1, sent + 1)]
    assert box.due_at() is None


def test_all_that_is_unanswered_is_kept_in_order() -> None:
    """For the spool: every unanswered event and then the outcome, in pieces; nothing counts as sent by it."""
    box = outbox()
    for _ in range(10):
        box.append(body("y" * 100))
    assert box.unanswered(ROOM) == []
    box.finish(DONE, 0.0)

    kept = box.unanswered(400)

    assert [event.n for report in kept for event in report.events] == list(range(1, 11))
    assert [report.outcome is not None for report in kept] == [False] * (len(kept) - 1) + [True]
    assert len(kept) > 1
    assert len(take(box).events) == 10
    box.drop()
    assert box.unanswered(ROOM) == []


def test_the_end_of_a_question_comes_behind_its_event_until_it_was_answered() -> None:
    """[J17] It is sent at once, with what was said before it, again after a hole, and no more once the hub has it."""
    box = outbox()
    box.append(body())
    assert box.close_ask("ask-1")
    first = take(box, 0.0)
    assert ([event.n for event in first.events], first.ask_closed) == ([1], "ask-1")
    box.expected(1)
    again = take(box, 0.0)
    assert again.ask_closed == "ask-1"
    box.answered(again)
    assert box.due_at() is None

    box.finish(DONE, 0.0)
    assert take(box).ask_closed is None
    assert not box.close_ask("ask-2")
