"""Large reports on every way to the hub, and what has to come through beside them."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING

from support import wait_until
from support_hub import BareRun, Caller, running_hub

if TYPE_CHECKING:
    from pathlib import Path

#: Senders of reports of nearly a MiB each, and how often heartbeat and cancel are asked for beside them.
FLOWS = 3
TIMES = 7
#: Bytes of one event; fourteen of them are a report of nearly a MiB.
EVENT = 60_000


def test_large_reports_do_not_keep_control_waiting(tmp_path: Path) -> None:
    """While a MiB after the other is reported on three ways, beats and cancels are answered within a second. [J11]"""
    with running_hub(tmp_path) as hub:
        consumer = hub.consumer()["accessToken"]
        beating = hub.connect("beating", concurrency=100)["accessToken"]
        hub.ask("POST", "/api/v1/heartbeats", {"free": 100}, bearer=beating)
        flows = [_Flow(hub, consumer, number) for number in range(FLOWS)]
        for flow in flows:
            flow.start()
        try:
            for flow in flows:
                assert flow.began.wait(30)
            taken = [_taken(hub, beating, consumer) for _ in range(TIMES)]
            wait_until(lambda: sum(flow.reported for flow in flows) > 5, what="the hub had work all the while")
        finally:
            for flow in flows:
                flow.over.set()
            for flow in flows:
                flow.join(30)

    beats, cancels = (sorted(seconds) for seconds in zip(*taken, strict=True))
    # One may be slow because another program had the machine; starved, each would be.
    # And where the machine is slow, what they wait for is too: a report that is being written.
    slow = max(1.0, 2 * statistics.median(second for flow in flows for second in flow.seconds))
    for each in (beats, cancels):
        assert each[TIMES // 2] < slow, each
        assert each[-1] < 5 * slow, each
    assert all(flow.status == 200 for flow in flows)


def _taken(hub: Caller, instance: str, consumer: str) -> tuple[float, float]:
    """Return the seconds that a heartbeat and a cancel took."""
    task = hub.submit(consumer, "beating")
    began = time.monotonic()
    assert hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance).status == 200
    between = time.monotonic()
    assert hub.ask("POST", f"/api/v1/tasks/{task}/cancel", {}, bearer=consumer).status == 202
    return between - began, time.monotonic() - between


class _Flow(threading.Thread):
    """Report for one run, as much and as fast as it is taken."""

    def __init__(self, hub: Caller, consumer: str, number: int) -> None:
        super().__init__()
        self.began, self.over = threading.Event(), threading.Event()
        self.reported, self.status = 0, 200
        #: How long each report took.
        self.seconds: list[float] = []
        agent = f"large{number}"
        self._hub = Caller(hub.address, hub.key)
        self._token = hub.connect(agent)["accessToken"]
        hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=self._token)
        self._turn = BareRun(hub, self._token, hub.submit(consumer, agent))._turn

    def run(self) -> None:
        """Report until it is over."""
        n = 0
        while not self.over.is_set() and self.status == 200:
            numbers = range(n + 1, n + 15)
            events = [{"n": each, "body": {"type": "progress", "message": "x" * EVENT}} for each in numbers]
            began = time.monotonic()
            answered = self._hub.ask("POST", "/api/v1/reports", {**self._turn, "events": events}, bearer=self._token)
            self.seconds.append(time.monotonic() - began)
            self.status, n = answered.status, numbers[-1]
            self.reported += 1
            self.began.set()
        self._hub.pool.clear()
