"""A hub that was away for long is back: what waited for a repeat does not wait on."""

from __future__ import annotations

import threading

from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.concurrency import Entropy
from blocks_worker.worker.presence import BEAT_CAP


class PatientReports(Entropy):
    """Draw the longest of all pauses that are longer than any of a heartbeat, and short ones else."""

    def uniform(self, low: float, high: float) -> float:
        """Return a number between the two."""
        return high if high > BEAT_CAP else low + 0.05 * (high - low)


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
        # The sixth repeat waits for 6.4 s.
        wait_until(lambda: at.worker.counters.get("reports_repeated", 0) >= 6, what="failed reports")
        at.login.cut.clear()

        assert hub.ended(first, timeout=3).state == "completed"
        assert hub.ended(second, timeout=3).state == "completed"
