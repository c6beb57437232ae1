"""What hardly anybody waits on."""

from __future__ import annotations

import threading

from blocks_worker.worker.waiters import Waiters


def test_waiters_are_woken_and_nobody_else_is_asked() -> None:
    """Who waits looks again when something has changed; without waiters there is nothing to signal."""
    lock = threading.Lock()
    waiters, waits, went_on = Waiters(lock), threading.Event(), threading.Event()

    def wait() -> None:
        with lock:
            waits.set()
            waiters.wait(None)
        went_on.set()

    with lock:
        waiters.wake()
    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()
    with lock:  # had only once the other one waits
        waiters.wake()

    assert went_on.wait(30)
    thread.join(30)
