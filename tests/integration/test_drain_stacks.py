"""A drain that runs out of time tells what every thread is at."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

if TYPE_CHECKING:
    from blocks_worker.observability.families import Sample


@pytest.mark.parametrize(("timeout", "is_told"), [(0.05, True), (0.0, False)])
def test_a_drain_out_of_time_tells_the_stacks(caplog: pytest.LogCaptureFixture, timeout: float, is_told: bool) -> None:
    """When runs outlast the drain timeout each thread is logged, with its task; who asked for no time knows. [R-54]"""
    started = threading.Event()

    def waits_for_its_cancel(_task: Any, ctx: Any) -> None:
        started.set()
        ctx.wait(30)

    with LedgerInProcess() as hub, WorkerAtHub(hub, waits_for_its_cancel) as at:
        worker = at.ready()
        task = hub.submit()
        assert started.wait(30)
        with caplog.at_level(logging.WARNING):
            worker.stop(timeout)
    lines = [vars(record) for record in caplog.records if "stack" in vars(record)]
    told = {line["thread_name"]: line["stack"] for line in lines}

    assert any("waits_for_its_cancel" in line for stack in told.values() for line in stack) is is_told
    assert ("MainThread" in told) is is_told
    assert [line["thread_name"] for line in lines if line.get("task") == task] == ["executor-1"] * is_told
    assert _drain_seconds(worker) >= 0.9 * timeout


def test_a_worker_that_does_not_drain_has_no_drain_seconds() -> None:
    """The gauge is 0 until a drain begins."""
    with LedgerInProcess() as hub, WorkerAtHub(hub, str) as at:
        worker = at.ready()
        before = _drain_seconds(worker)
        worker.stop(0)
        wait_until(lambda: _drain_seconds(worker) > 0, what="it has drained")

    assert before == 0


def _drain_seconds(worker: Any) -> float:
    found: list[Sample] = [one for one in worker.insight.samples() if one.family == "blocks_worker_drain_seconds"]
    assert isinstance(found[0].value, float)
    return found[0].value
