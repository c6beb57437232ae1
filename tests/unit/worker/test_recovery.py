"""A hub that was away for long is back: what waited for a repeat does not wait on."""

from __future__ import annotations

import threading

from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.worker.presence import BEAT_CAP


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
        wait_until(lambda: publisher._repeats.not_before > clock.monotonic() + 11, what="the long pause of the reports")
        wait_until(lambda: at.worker._presence._failing, what="a heartbeat that was not answered")
        at.login.cut.clear()

        assert hub.ended(first, timeout=10).state == "completed"
        assert hub.ended(second, timeout=10).state == "completed"
