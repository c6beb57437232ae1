"""Whatever part of a worker fails at its end, the others are ended, and what it holds is given back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.worker.closing import end_parts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Give a ledger of this process."""
    with LedgerInProcess() as hub:
        yield hub


def broken(*_args: Any, **_options: Any) -> None:
    """Fail."""
    raise RuntimeError("this part cannot end")


@pytest.mark.parametrize("part", ["login", "subscription", "farewell", "all"])
def test_a_part_that_cannot_end_keeps_no_other_from_it(
    hub: LedgerInProcess, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told by its name, the stop returns in its time, and the task that ran is offered to others. [D6] [D4]"""
    go, begun = threading.Event(), threading.Event()
    before = set(threading.enumerate())

    def handler(_task: Any, ctx: Any) -> object:
        begun.set()
        return ctx.wait(30) or go.wait(10)

    at = WorkerAtHub(hub, handler)
    with at:
        at.ready()
        task = hub.submit()
        # A granted task is running in the ledger before the worker has heard of it.
        assert begun.wait(10)
        if part in {"login", "all"}:
            at.login.close = broken  # type: ignore[method-assign]  # the double fails, one level below
        if part in {"subscription", "all"}:
            for ear in hub.bus.ears:
                ear.close = broken  # type: ignore[method-assign]
        if part in {"farewell", "all"}:
            real = at.login.heartbeat
            at.login.heartbeat = (  # type: ignore[method-assign]
                lambda beat, *, timeout: broken() if beat.stopped else real(beat, timeout=timeout)
            )
        at.worker.stop(0.1)

        assert at.worker.wait(10)
        wait_until(lambda: hub.row(task).state == "pending", what="the task given back")
    for ear in hub.bus.ears:
        ear.waiting.put(None)
    if part in {"login", "all"}:
        assert [record.part for record in caplog.records if record.msg == "stop_failed"].count("login") == 1
    assert hub.row(task).attempt == 0
    go.set()
    wait_until(lambda: {one for one in threading.enumerate() if one.name.startswith("slot")} <= before, what="slots")


def test_every_part_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Each step is done whichever of them raises, and each that did is named once. [D6]"""
    done: list[int] = []

    def step(number: int, bad: int) -> None:
        done.append(number)
        if number == bad:
            broken()

    for bad in range(5):
        end_parts([(f"part {number}", lambda number=number, bad=bad: step(number, bad)) for number in range(5)])

    assert done == [*range(5)] * 5
    assert [record.part for record in caplog.records] == [f"part {number}" for number in range(5)]
