"""What a run knows of the answers to its questions."""

from __future__ import annotations

import threading

import msgspec

from blocks_worker.concurrency import Deadline
from blocks_worker.protocol.leases import AnswerFlag
from blocks_worker.worker.answers import Answers


def flag(ask: str, value: bytes | None = b"1") -> AnswerFlag:
    """Return what the hub says."""
    raw = msgspec.UNSET if value is None else msgspec.Raw(value)
    return AnswerFlag(task_id="t", epoch=1, ask_id=ask, value=raw)


def test_the_first_word_on_a_question_stands() -> None:
    """[I10] What comes again, late or otherwise, changes nothing: also that nobody answered."""
    answers = Answers()
    for told in (flag("a"), flag("a", b"2"), flag("b", None), flag("b", b"3")):
        answers.take(told)

    assert (answers.to("a"), answers.to("b"), answers.knows("c")) == (b"1", None, False)


def test_questions_without_a_name_are_counted() -> None:
    """The same calls in the same order have the same names in the next run."""
    answers = Answers()

    assert [answers.next_id(), answers.next_id()] == ["ask-1", "ask-2"]


def test_who_waits_is_woken_by_the_answer_or_to_stop() -> None:
    """Each of both ends the wait; without either it ends with its time."""
    answers, stops = Answers(), threading.Event()
    assert not answers.wait("a", Deadline(0.01), stops.is_set)

    for wake in (lambda: answers.take(flag("a")), lambda: (stops.set(), answers.wake())):
        done: list[bool] = []
        ask = "b" if answers.knows("a") else "a"
        thread = threading.Thread(
            target=lambda ask=ask, done=done: done.append(answers.wait(ask, Deadline(10), stops.is_set))
        )
        thread.start()
        wake()
        thread.join(10)
        assert done == [True]


def test_one_is_open_at_a_time() -> None:
    """A second is told which; behind the first one it may."""
    answers = Answers()

    assert (answers.open("a"), answers.open("b"), answers.awaited) == (None, "a", "a")
    answers.close()
    assert (answers.awaited, answers.open("b")) == (None, None)
