"""Who is woken for what: one thread at a time, the one that worked last, and all that are needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from support import wait_until

from blocks_worker.worker.work_queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 4


class Crowd:
    """Some threads that do what comes out of one queue."""

    def __init__(self) -> None:
        self.queue: WorkQueue[Callable[[], object] | None] = WorkQueue()
        self.threads = [threading.Thread(target=self._serve) for _ in range(THREADS)]
        for thread in self.threads:
            thread.start()
        self.rest()

    def rest(self) -> None:
        """Wait until all sleep."""
        wait_until(lambda: len(self.queue._asleep) == THREADS, what="threads that rest")

    def _serve(self) -> None:
        while (work := self.queue.get()) is not None:
            work()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Give the test a crowd, and send it home."""
    crowd = Crowd()
    yield crowd
    for _ in crowd.threads:
        crowd.queue.put(None)
    for thread in crowd.threads:
        thread.join(20)
        assert not thread.is_alive()


def test_all_begin_however_long_each_takes(crowd: Crowd) -> None:
    """As many items as threads, each of which waits for all the others: every thread was woken."""
    together = threading.Barrier(THREADS + 1, timeout=20)
    for _ in range(THREADS):
        crowd.queue.put(together.wait)
    together.wait()


def test_more_than_there_are_threads_are_all_done_in_order(crowd: Crowd) -> None:
    """What waits is taken by whoever is free; one thread alone takes them as they came."""
    gate, done = threading.Event(), []
    for _ in range(THREADS - 1):
        crowd.queue.put(lambda: gate.wait(20))
    for number in range(50):
        crowd.queue.put(lambda number=number: done.append(number))
    wait_until(lambda: len(done) == 50, what="all of them")
    gate.set()
    assert done == list(range(50))


def test_who_worked_last_works_next(crowd: Crowd) -> None:
    """One item after another wakes one thread, again and again."""
    who: list[int] = []
    for number in range(1, 21):
        crowd.queue.put(lambda: who.append(threading.get_ident()))
        wait_until(lambda count=number: len(who) == count, what="its work")
        crowd.rest()
    assert len(set(who)) == 1


def test_what_nobody_took_is_given_back(crowd: Crowd) -> None:
    """Drained items are nobody's any more."""
    gate = threading.Event()
    for _ in range(THREADS):
        crowd.queue.put(lambda: gate.wait(20))
    wait_until(lambda: not crowd.queue._asleep and not crowd.queue._items, what="all at work")
    crowd.queue.put(gate.set)
    assert crowd.queue.drain() == [gate.set]
    assert crowd.queue.drain() == []
    gate.set()
