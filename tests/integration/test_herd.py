"""Many workers lose their hub at the same moment, and find it again."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
from support import wait_until
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker.concurrency import Clock
from blocks_worker.protocol.leases import Heartbeat

if TYPE_CHECKING:
    import pytest


class Beats(list[Heartbeat]):
    """Heartbeats, and when each came."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.moments: list[float] = []
        self._clock = clock

    def append(self, beat: Heartbeat) -> None:
        """Take one in."""
        self.moments.append(self._clock.monotonic())
        super().append(beat)


def test_a_herd_comes_back_one_after_the_other(request: pytest.FixtureRequest) -> None:
    """None registers anew, their beats are spread over time, and what each runs goes on to its one end. [E19] [B14]"""
    many = 100 if request.config.getoption("--long") else 16
    go, clock, starts, lock = threading.Event(), Clock(), [0], threading.Lock()

    def handler(_task: object) -> str:
        with lock:
            starts[0] += 1
        assert go.wait(60)
        return "done"

    # What they hold outlasts the cut.
    numbers = msgspec.structs.replace(NUMBERS, lease_ttl=60.0)
    with LedgerInProcess(numbers=numbers) as hub, ExitStack() as stack:
        herd = [stack.enter_context(WorkerAtHub(hub, handler, name=f"w{number}")) for number in range(many)]
        for one in herd:
            one.ready()
        tasks = [hub.submit() for _ in range(many)]
        wait_until(lambda: starts[0] == many, 20, "a run for each")
        for one in herd:
            one.login.cut.set()
        clock.wait(threading.Event(), 2.0)
        beats = [Beats(clock) for _ in herd]
        for one, noted in zip(herd, beats, strict=True):
            one.login.beats = noted
        for one in herd:
            one.login.cut.clear()
        wait_until(lambda: all(beats), what="the herd")
        moments = [noted.moments[0] for noted in beats]
        go.set()
        ends = {hub.ended(task, 20).state for task in tasks}

        assert ends == {"completed"}
        assert starts[0] == many
        assert [one.login.connects for one in herd] == [1] * many
        assert max(moments) - min(moments) > 0.1, "they do not come in one moment"
        assert {row.attempt for row in map(hub.row, tasks)} == {1}
