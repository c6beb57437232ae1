"""A hub that was away for long is back: what waited for a repeat does not wait on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.worker.presence import BEAT_CAP

if TYPE_CHECKING:
    from collections.abc import Callable


class PatientReports(Entropy):
    """Draw the longest of all pauses that are longer than any of a heartbeat, and short ones else."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between the two, or more than any pause may be: then it is as long as it may be."""
        return 60.0 if high > BEAT_CAP else low + 0.05 * (high - low)


def test_a_heartbeat_that_is_answered_again_sends_what_waits() -> None:
    """The hub holds a slot for each outcome that it has not heard of: reports do not sit out their pause. [P8]"""
    go = threading.Event()
    with (
        LedgerInProcess() as hub,
        WorkerAtHub(hub, lambda _task: go.wait(10) and "done", options={"entropy": PatientReports()}) as at,
    ):
        at.ready()
        first, second = hub.submit(), hub.submit()
        hub.running(first)
        at.login.cut.set()
        go.set()
        # The sixth repeat waits for 15 s.
        publisher, clock = at.worker._engine.publisher, Clock()
        wait_until(lambda: publisher._not_before > clock.monotonic() + 11, what="the long pause of the reports")
        wait_until(lambda: at.worker._presence._failing, what="a heartbeat that was not answered")
        at.login.cut.clear()

        assert hub.ended(first, timeout=10).state == "completed"
        assert hub.ended(second, timeout=10).state == "completed"


class ReturnsMeanwhile(PatientReports):
    """Let something happen while the first long pause is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], None]] = []

    def uniform(self, low: float, high: float) -> float:
        """Do it first."""
        if high > BEAT_CAP and self.meanwhile:
            self.meanwhile.pop()()
        return super().uniform(low, high)


def test_a_hub_that_is_back_before_the_failure_is_noted_has_no_pause_after_it() -> None:
    """A heartbeat may be answered between the failure of a report and its pause: the pause is left out. [P8]"""
    go, entropy = threading.Event(), ReturnsMeanwhile()
    with (
        LedgerInProcess() as hub,
        WorkerAtHub(hub, lambda _task: go.wait(10) and "done", options={"entropy": entropy}) as at,
    ):
        at.ready()
        publisher, presence = at.worker._engine.publisher, at.worker._presence
        task = hub.submit()
        hub.running(task)

        def come_back() -> None:
            wait_until(lambda: presence._failing, what="a heartbeat that was not answered")
            at.login.cut.clear()
            wait_until(lambda: not presence._failing, what="one that was")
            came.append(publisher._not_before)

        came: list[float] = []
        entropy.meanwhile.append(come_back)
        at.login.cut.set()
        go.set()

        assert hub.ended(task, timeout=12).state == "completed"
        assert came == [float("-inf")]
