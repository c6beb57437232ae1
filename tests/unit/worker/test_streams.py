"""The streams of runs: made for who asks, and let go of with the run."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.context.messages import StartTaskMessage
from blocks_worker.errors import TaskFinishedError
from blocks_worker.protocol.control import StartTask
from blocks_worker.worker.outbox import Outbox
from blocks_worker.worker.run import Ending, Run
from blocks_worker.worker.streams import WorkerStreams


def streams() -> WorkerStreams:
    """Return those of a worker that never opens one."""
    none: Any = None
    return WorkerStreams(
        open_exchange=none,
        hand_out=none,
        declared={},
        checks=none,
        failed=none,
        options=none,
        clock=Clock(),
        entropy=Entropy(),
    )


def run() -> Run:
    """Return a run."""
    return Run(StartTask(task_id="t", epoch=1, digest=""), Outbox(("t", 1)), 0.0)


def test_a_run_has_its_streams_from_the_first_who_asks() -> None:
    """The context and a generator of one run have the same ones, and they go with the run."""
    worker, one = streams(), run()
    first = worker.of(one, StartTaskMessage(), lambda _event: None)

    assert worker.of(one, StartTaskMessage(), lambda _event: None) is first
    worker.ended(one)
    assert not worker._runs


def test_streams_that_are_first_asked_for_after_the_end_open_nothing() -> None:
    """The run has ended, for example by its limit: nobody would let go of what it opens now."""
    worker, one = streams(), run()
    one.ending = Ending("failed")
    late = worker.of(one, StartTaskMessage(), lambda _event: None)

    with pytest.raises(TaskFinishedError):
        late.create()
    assert not worker._runs


def test_shared_streams_that_are_asked_for_again_at_the_end_are_let_go_of() -> None:
    """A generator asks a second time while the run is ended elsewhere: what it had goes, and nobody waits for ever."""
    worker, one = streams(), run()
    task, none = StartTaskMessage(), lambda _event: None
    ours = worker.of(one, task, none)
    worker._runs[one] = ours
    closed: list[str] = []
    ours.drop = lambda: closed.append("dropped" if not worker._lock.locked() else "with the lock")  # type: ignore[method-assign]
    one.ending = Ending("failed")

    worker.of(one, task, none)

    assert closed == ["dropped"]
