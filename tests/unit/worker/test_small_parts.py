"""The small pure parts: nonces, replay window, deadlines, failures, start body."""

from __future__ import annotations

import hashlib
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wait_until

from blocks_worker.concurrency import Clock
from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.control import StartTask
from blocks_worker.protocol.leases import ClaimAnswer
from blocks_worker.worker.deadlines import SWEEP, Deadlines
from blocks_worker.worker.failures import said
from blocks_worker.worker.nonces import Nonces
from blocks_worker.worker.replay import ReplayWindow
from blocks_worker.worker.start_body import content_of, offered_digest, parsed


def test_three_nonces_behind_mean_deaf() -> None:
    """The fourth announcement without one heard says so. [R14]"""
    nonces = Nonces()

    assert [nonces.announced(str(number)) for number in range(4)] == [False, False, False, True]


def test_a_nonce_that_came_first_proves_the_bus() -> None:
    """The bus may be faster than the answer that announces, or slower: both prove it."""
    nonces = Nonces()
    for number in range(20):
        nonce = str(number)
        if number % 2:
            nonces.heard(nonce)
        assert not nonces.announced(nonce)
        if not number % 2:
            nonces.heard(nonce)

    assert nonces.newest == "19"


@given(st.permutations(range(50)))
def test_each_number_passes_once_in_any_order(order: list[int]) -> None:
    """Within the window every number passes exactly once. [K7]"""
    window = ReplayWindow()

    assert all(window.is_new(number) for number in order)
    assert not any(window.is_new(number) for number in order)


def test_numbers_older_than_the_window_are_refused() -> None:
    """A message that is older than all that is remembered is a replay, and memory stays bounded."""
    window = ReplayWindow(10)
    for number in range(100):
        window.is_new(number)

    assert not window.is_new(5)
    assert len(window._seen) <= 11


def test_deadlines_act_in_order_and_not_when_called_off() -> None:
    """What was called off never happens; an earlier moment overtakes a later one."""
    clock = Clock()
    deadlines = Deadlines(clock)
    done: list[str] = []
    over = threading.Event()
    now = clock.monotonic()
    deadlines.at(now + 0.10, over.set)
    deadlines.at(now + 0.06, lambda: done.append("late"))
    deadlines.call_off(deadlines.at(now + 0.04, lambda: done.append("never")))
    deadlines.at(now + 0.02, lambda: done.append("early"))
    deadlines.at(now, lambda: done.append("first"))
    deadlines.start()

    assert over.wait(30)
    assert done == ["first", "early", "late"]
    deadlines.stop()
    assert deadlines.join(30)


def test_an_earlier_moment_wakes_the_thread_that_waits_for_a_later_one() -> None:
    """Who comes with less time is not held up until the moment that was waited for."""
    clock = Clock()
    deadlines = Deadlines(clock)
    deadlines.start()
    far, soon = threading.Event(), threading.Event()
    deadlines.at(clock.monotonic() + 3600, far.set)
    wait_until(lambda: 0 < deadlines._looks_at < float("inf"), what="the thread waits for the far one")
    deadlines.at(clock.monotonic() + 0.02, soon.set)

    assert soon.wait(30)
    assert not far.is_set()
    deadlines.stop()
    assert deadlines.join(30)


class CountedClock(Clock):
    """Count how often it is asked."""

    asked = 0

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        self.asked += 1
        return super().monotonic()


def test_deadlines_that_are_called_off_at_once_do_not_wake_the_thread() -> None:
    """The limits of short tasks cost nothing, also where each is over before the thread has seen it."""
    clock = CountedClock()
    deadlines = Deadlines(clock)
    deadlines.call_off(deadlines.at(1e9, lambda: None))
    deadlines.start()
    wait_until(lambda: deadlines._looks_at > 0, what="the thread sleeps")
    asked = clock.asked
    for moment in range(20):
        deadlines.call_off(deadlines.at(1e9 + moment, lambda: None))

    assert (deadlines._looks_at, clock.asked) == (1e9, asked)
    deadlines.stop()
    assert deadlines.join(30)


def test_deadlines_called_off_take_no_room() -> None:
    """A hundred thousand short tasks with a far limit leave a small heap. [I9]"""
    deadlines = Deadlines(Clock())
    for _ in range(100_000):
        deadlines.call_off(deadlines.at(1e9, lambda: None))

    assert len(deadlines._heap) <= 2 * SWEEP + 2


def test_a_deadline_that_raises_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next one acts."""
    deadlines = Deadlines(Clock())
    deadlines.start()
    over = threading.Event()
    deadlines.at(0.0, lambda: 1 / 0)
    deadlines.at(0.0, over.set)

    assert over.wait(5)
    wait_until(lambda: any(record.getMessage() == "deadline_failed" for record in caplog.records))
    deadlines.stop()
    assert deadlines.join(5)


def test_an_exception_that_cannot_speak_is_named() -> None:
    """Even a broken exception gives a text."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert said(BrokenError()) == "BrokenError"
    assert said(ValueError()) == "ValueError"


def _answer(digest: str, start: bytes | None = None) -> ClaimAnswer:
    raw = msgspec.UNSET if start is None else msgspec.Raw(start)
    return ClaimAnswer(task_id="t", epoch=1, lease="l", attempt=1, digest=digest, start=raw, max_runtime=1.0)


def test_inline_input_counts_only_with_the_hubs_digest() -> None:
    """Content that came by bus is used when it is what the lease is for, else not. [R6] [J12]"""
    text = '{"agentName":"a"}'
    digest = hashlib.sha256(text.encode()).hexdigest()
    honest = StartTask(task_id="t", epoch=1, digest=digest, start=text)
    forged = StartTask(task_id="t", epoch=1, digest=digest, start=text + " ")

    assert (offered_digest(honest), offered_digest(forged)) == (digest, None)
    assert content_of(honest, _answer(digest)) == text.encode()
    assert content_of(honest, _answer("other")) is None
    assert content_of(forged, _answer(digest)) is None
    assert content_of(forged, _answer(digest, b"{}")) == b"{}"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"agentName":1}', b"\xff", b'{"a":NaN}'])
def test_content_that_is_no_task_is_refused(content: bytes) -> None:
    """Whatever is not a task's content raises, and nothing else."""
    with pytest.raises(InvalidMessageError):
        parsed(content)
