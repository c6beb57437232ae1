"""Many workers lose their hub at the same moment, and find it again."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from support import wait_until
from support_worker import LedgerInProcess, WorkerAtHub

from blocks_worker.concurrency import Clock

if TYPE_CHECKING:
    import pytest


def test_a_herd_comes_back_one_after_the_other(request: pytest.FixtureRequest) -> None:
    """None registers anew, their beats are spread over time, and what each runs goes on to its one end. [E19] [B14]"""
    many = 100 if request.config.getoption("--long") else 16
    go, clock, starts, lock = threading.Event(), Clock(), [0], threading.Lock()

    def handler(_task: object) -> str:
        with lock:
            starts[0] += 1
        assert go.wait(60)
        return "done"

    with LedgerInProcess() as hub, ExitStack() as stack:
        herd = [stack.enter_context(WorkerAtHub(hub, handler, name=f"w{number}")) for number in range(many)]
        for one in herd:
            one.ready()
        tasks = [hub.submit() for _ in range(many)]
        wait_until(lambda: starts[0] == many, 20, "a run for each")
        for one in herd:
            one.login.cut.set()
        clock.wait(threading.Event(), 2.0)
        beats = [len(one.login.beats) for one in herd]
        back = clock.monotonic()
        for one in herd:
            one.login.cut.clear()
        moments: dict[int, float] = {}

        def all_are_back() -> bool:
            for number, one in enumerate(herd):
                if len(one.login.beats) > beats[number]:
                    moments.setdefault(number, clock.monotonic() - back)
            return len(moments) == many

        wait_until(all_are_back, 20, "the herd")
        go.set()
        ends = {hub.ended(task, 20).state for task in tasks}

        assert ends == {"completed"}
        assert starts[0] == many
        assert [one.login.connects for one in herd] == [1] * many
        assert max(moments.values()) - min(moments.values()) > 0.1, "they do not come in one moment"
        assert {row.attempt for row in map(hub.row, tasks)} == {1}
