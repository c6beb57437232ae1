"""A storm of interrupts over the threads of a batcher."""

from __future__ import annotations

import random
import signal
import threading
import time

from support import wait_until

from blocks_worker.batching import Batcher


def test_an_interrupt_at_any_point_leaves_nobody_waiting() -> None:
    """Ctrl-C in a sender, thousands of times at random points: the other senders go on."""
    batcher: Batcher[int, int] = Batcher(list)
    stop = threading.Event()
    calls = [0] * 4

    def send(place: int) -> None:
        while not stop.is_set():
            try:
                assert batcher.call(place) == place
            except InterruptedError:
                continue
            calls[place] += 1

    def interrupt(_number: int, _frame: object) -> None:
        if armed:
            raise KeyboardInterrupt

    threads = [threading.Thread(target=send, args=(place,)) for place in range(len(calls))]
    armed, interrupts, chance = False, 0, random.Random(1)
    before = signal.signal(signal.SIGALRM, interrupt)
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.002))
                while True:
                    batcher.call(-1)
            except (KeyboardInterrupt, InterruptedError) as error:
                armed = False
                interrupts += isinstance(error, KeyboardInterrupt)
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        made = list(calls)
        # Everybody is served after the last interrupt.
        wait_until(lambda: all(now > then for now, then in zip(calls, made, strict=True)), what="each sender goes on")
        stop.set()
        for thread in threads:
            thread.join(10)

    assert interrupts > 50
    assert not any(thread.is_alive() for thread in threads)
