"""What stands before the calls to a hub."""

from __future__ import annotations

import heapq
import threading
from contextlib import suppress

import pytest
from support import FakeClock, SeededEntropy, wait_until

from blocks_worker.concurrency import Backoff
from blocks_worker.controlplane.breaker import FAILURES, LONGEST_PAUSE
from blocks_worker.controlplane.budget import ALLOWANCE
from blocks_worker.controlplane.gate import Gate
from blocks_worker.errors import HubUnavailableError

URL = "http://127.0.0.1:1"


@pytest.fixture
def clock() -> FakeClock:
    """Be time."""
    return FakeClock()


@pytest.fixture
def gate(clock: FakeClock) -> Gate:
    """Be the gate of a process."""
    return Gate(clock, SeededEntropy())


def call(
    gate: Gate, status: int, place: str = "POST reports", *, url: str = URL, timeout: float = 1.0, vital: bool = False
) -> bool:
    """Make a call that is answered so; tell whether it was made."""
    try:
        with gate.turn(url, place, timeout, vital=vital) as turn:
            turn.answered(status)
    except HubUnavailableError:
        return False
    return True


def fail(gate: Gate, status: int = 503) -> None:
    """Fail until the breaker opens, at a new place each time."""
    for number in range(FAILURES):
        assert call(gate, status, f"GET tasks/{number}")


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_hub_that_is_away_is_left_alone(gate: Gate, status: int) -> None:
    """After failures in a row a call that cannot wait for its turn is told at once; a vital one goes. [A14]"""
    fail(gate, status)

    with pytest.raises(HubUnavailableError, match="left alone") as caught, gate.turn(URL, "GET agents", 0.5):
        pass
    assert not caught.value.sent
    assert call(gate, status, "POST heartbeats", vital=True)


@pytest.mark.parametrize("status", [200, 401, 404, 409, 429, 500, 507])
def test_an_answer_about_the_caller_opens_nothing(gate: Gate, status: int) -> None:
    """Refusals, quotas and faults at one place say that the hub is there. [A14]"""
    fail(gate, status)

    assert call(gate, 200, "GET agents")


def test_silence_counts_as_failure(gate: Gate) -> None:
    """No answer at all is worth as much as 503; what ends otherwise says nothing about the hub."""
    for _ in range(2 * FAILURES):
        with suppress(KeyboardInterrupt), gate.turn(URL, "GET agents", 1.0):
            raise KeyboardInterrupt
    assert call(gate, 200, "GET agents")
    for number in range(FAILURES):
        with suppress(HubUnavailableError), gate.turn(URL, f"GET tasks/{number}", 1.0):
            raise HubUnavailableError(URL)

    assert not call(gate, 200, "GET agents")


def test_a_vital_call_that_is_answered_lets_all_go(gate: Gate) -> None:
    """The heartbeat that gets through ends the wait of everybody. [A14]"""
    fail(gate)
    call(gate, 200, "POST heartbeats", vital=True)

    assert call(gate, 200, "GET agents")


def test_the_next_probe_goes_when_its_time_has_come(gate: Gate, clock: FakeClock) -> None:
    """Without any heartbeat the next call finds out that the hub is back. [A14]"""
    fail(gate)
    clock.advance(LONGEST_PAUSE)

    assert call(gate, 200, "GET tasks/0")
    assert call(gate, 200, "GET agents")


def test_another_address_is_another_hub(gate: Gate) -> None:
    """Where the hub has moved nobody waits for what the old place did."""
    fail(gate)

    assert call(gate, 200, "GET agents", url="http://127.0.0.1:2")


def test_who_waits_goes_when_the_hub_has_moved(clock: FakeClock, gate: Gate) -> None:
    """A call at another address ends the wait for a probe of the old one."""
    fail(gate)
    clock.advance(LONGEST_PAUSE)
    made: list[bool] = []
    thread = threading.Thread(target=lambda: made.append(call(gate, 200, "GET agents", timeout=120.0)))
    with gate.turn(URL, "POST reports", 60.0):
        thread.start()
        wait_until(lambda: gate._changed._waiters, 10, "the wait to begin")  # type: ignore[attr-defined]
        assert call(gate, 200, "GET tasks", url="http://127.0.0.1:2")
        thread.join(10)

    assert made == [True]


def test_repeats_have_a_budget(gate: Gate) -> None:
    """A place that fails is asked again some times; then its calls are told at once, but vital ones go. [A14]"""
    made = [call(gate, 500) for _ in range(50)]
    beats = [call(gate, 500, "POST heartbeats", vital=True) for _ in range(50)]

    assert (sum(made), sum(beats)) == (1 + int(ALLOWANCE), 50)
    assert call(gate, 200, "GET agents")


def test_who_waits_goes_when_the_probe_was_answered() -> None:
    """Calls wait for the end of the probe that is under way, and all go on with its answer. [A14]"""
    clock = FakeClock()
    gate = Gate(clock, SeededEntropy())
    fail(gate)
    clock.advance(LONGEST_PAUSE)
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(call(gate, 200, "GET agents"))) for _ in range(5)]
    with gate.turn(URL, "POST reports", 20.0) as probe:
        for thread in threads:
            thread.start()
        assert made == []
        probe.answered(200)
    for thread in threads:
        thread.join(10)

    assert made == [True] * 5


def test_a_closed_gate_holds_nobody(clock: FakeClock, gate: Gate) -> None:
    """Who waits when it is closed goes on, to find the connections closed."""
    fail(gate)
    clock.advance(LONGEST_PAUSE)
    made: list[bool] = []
    with gate.turn(URL, "POST reports", 60.0):
        thread = threading.Thread(target=lambda: made.append(call(gate, 200, "GET agents", timeout=60.0)))
        thread.start()
        gate.close()
        wait_until(lambda: made, 10, "the wait to end")
    thread.join(10)

    assert made == [True]


class Storm:
    """Two hundred processes in time that is only counted: each beats every five seconds and reports every two."""

    #: What a process says: seconds between, the longest pause of its repeats, whether it is vital.
    SAID = (("POST heartbeats", 5.0, 4.0, True), ("POST reports", 2.0, 15.0, False))

    def __init__(self, size: int) -> None:
        self.clock = FakeClock()
        self.status = 200
        self.sent = 0
        self._entropy = SeededEntropy()
        self._heap: list[tuple[float, int]] = []
        self._callers = []
        for _ in range(size):
            gate = Gate(self.clock, self._entropy)
            for said in self.SAID:
                self._callers.append((gate, *said, Backoff(self._entropy, cap=said[2])))
                first = self.clock.monotonic() + self._entropy.uniform(0, said[1])
                heapq.heappush(self._heap, (first, len(self._callers) - 1))

    def rate(self, seconds: float) -> float:
        """Let time pass; return how many calls were sent in a second."""
        before, end = self.sent, self.clock.monotonic() + seconds
        while self._heap[0][0] <= end:
            due, number = heapq.heappop(self._heap)
            self.clock.advance(due - self.clock.monotonic())
            heapq.heappush(self._heap, (self.clock.monotonic() + self._call(number), number))
        self.clock.advance(end - self.clock.monotonic())
        return (self.sent - before) / seconds

    def _call(self, number: int) -> float:
        gate, place, interval, _, vital, backoff = self._callers[number]
        made = call(gate, self.status, place, timeout=0, vital=vital)
        self.sent += made
        if not made or self.status != 200:
            return backoff.next()
        backoff.reset()
        return interval * self._entropy.uniform(0.8, 1.2)


@pytest.mark.parametrize("status", [503, *(pytest.param(status, marks=pytest.mark.long) for status in (500, 429))])
def test_a_minute_of_refusals_to_two_hundred_is_no_storm(status: int) -> None:
    """They ask a hub that refuses no more than one that works, and do not rush in when it is back. [A14]"""
    storm = Storm(200)
    usual = storm.rate(20)
    storm.status = status
    at_first, later = storm.rate(20), storm.rate(40)
    storm.status = 200
    after = [storm.rate(1) for _ in range(10)]

    assert at_first <= 1.5 * usual, (usual, at_first, later, after)
    assert later <= 1.1 * usual, (usual, at_first, later, after)
    assert max(after) <= 2 * usual, (usual, at_first, later, after)
    assert sum(after) >= 6 * usual, (usual, at_first, later, after)
