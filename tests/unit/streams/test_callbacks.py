"""Users' callbacks of streams."""

from __future__ import annotations

import logging
import threading

import pytest
from support import wait_until

from blocks_worker.streams.callbacks import WAITING, StreamCallbacks


def test_callbacks_run_in_order_on_a_thread_of_their_own() -> None:
    """Never on the thread that hands them over, which is the network's [R-51]."""
    callbacks, told, done = StreamCallbacks(), list[tuple[int, str]](), threading.Event()
    for number in range(20):
        callbacks.call(lambda number=number: told.append((number, threading.current_thread().name)))  # type: ignore[misc]
    callbacks.call(done.set)
    assert done.wait(5)

    assert told == [(number, "stream-callbacks") for number in range(20)]
    callbacks.stop()


def test_one_that_raises_takes_nobody_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged, the next one runs."""
    callbacks, done = StreamCallbacks(), threading.Event()

    def bad() -> None:
        raise SystemExit(3)

    callbacks.call(bad)
    callbacks.call(done.set)
    assert done.wait(5)
    callbacks.stop()

    assert "stream_callback_failed" in caplog.messages


def test_one_that_hangs_holds_up_only_so_many(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound a callback is not made, and the log says so [R-41]."""
    caplog.set_level(logging.WARNING)
    callbacks, go, begun = StreamCallbacks(), threading.Event(), threading.Event()
    callbacks.call(lambda: (begun.set(), go.wait(20)))  # type: ignore[arg-type,return-value]
    begun.wait(5)
    told: list[int] = []
    for number in range(WAITING + 3):
        callbacks.call(lambda number=number: told.append(number))  # type: ignore[misc]
    assert caplog.messages.count("stream_callback_dropped") == 3
    done = threading.Event()
    go.set()
    while not done.is_set():
        callbacks.call(done.set)
        done.wait(0.05)

    assert told == list(range(WAITING))
    callbacks.stop()


def test_after_the_stop_nothing_is_called() -> None:
    """A stopped one makes no thread, and can be stopped again."""
    callbacks = StreamCallbacks()
    callbacks.stop()
    callbacks.call(lambda: pytest.fail("called"))
    callbacks.stop()

    assert not any(thread.name == "stream-callbacks" for thread in threading.enumerate() if not thread.daemon)


def test_with_nothing_to_call_there_is_no_thread() -> None:
    """A stream by its token has nobody who stops it: its thread ends by itself, and is made again when needed."""
    callbacks, threads = StreamCallbacks(idle=0.01), list[threading.Thread]()
    for number in range(3):
        callbacks.call(lambda: threads.append(threading.current_thread()))
        wait_until(lambda number=number: len(threads) > number, what="the call")  # type: ignore[misc]
        threads[-1].join(5)
        assert not threads[-1].is_alive()

    assert len(set(threads)) == 3
