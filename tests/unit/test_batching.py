"""Batcher: what gathers while one flush is in flight is the next flush."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import wait_until

from blocks_worker.batching import Batcher

if TYPE_CHECKING:
    from collections.abc import Sequence


class Gate:
    """Flush by doubling, held up until it is opened; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        """Wait for the gate and answer."""
        self.batches.append(list(items))
        self.entered.release()
        assert self.open.acquire(timeout=10)
        if -1 in items:
            raise ValueError("minus one")
        return [item * 2 for item in items]


def waiting(batcher: Batcher[int, int], count: int) -> None:
    """Wait until so many items are queued."""
    wait_until(lambda: len(batcher._queue) == count, what=f"{count} items wait")


def test_idle_sends_one_at_once() -> None:
    """A batcher that is idle sends the one item that comes, without waiting for more."""
    gate = Gate()
    gate.open.release()

    assert Batcher(gate).call(4) == 8
    assert gate.batches == [[4]]


def test_natural_batch() -> None:
    """What comes while a flush is in flight goes together, in order, and each gets its own answer."""
    gate = Gate()
    batcher = Batcher(gate)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(batcher.call, 1)]
        assert gate.entered.acquire(timeout=5)
        for number in range(2, 7):
            answers.append(pool.submit(batcher.call, number))
            waiting(batcher, number - 1)
        gate.open.release(2)

        assert [answer.result(5) for answer in answers] == [2, 4, 6, 8, 10, 12]
    assert gate.batches == [[1], [2, 3, 4, 5, 6]]


def test_error_reaches_all() -> None:
    """What a flush raises reaches every caller of that batch, and the next batch goes on."""
    gate = Gate()
    batcher = Batcher(gate)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.call, 1)
        assert gate.entered.acquire(timeout=5)
        second = pool.submit(batcher.call, -1)
        third = pool.submit(batcher.call, 3)
        waiting(batcher, 2)
        gate.open.release(3)

        assert first.result(5) == 2
        for failed in (second, third):
            with pytest.raises(ValueError, match="minus one"):
                failed.result(5)
    assert batcher.call(5) == 10


def test_interrupted_leader() -> None:
    """A leader that is interrupted hands on: its own caller sees the interrupt, the others are told to repeat."""
    gate = Gate()

    def flush(items: Sequence[int]) -> list[int]:
        answers = gate(items)
        if 1 in items:
            raise KeyboardInterrupt
        return answers

    batcher = Batcher(flush)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.call, 1)
        assert gate.entered.acquire(timeout=5)
        second = pool.submit(batcher.call, 2)
        waiting(batcher, 1)
        gate.open.release(2)

        with pytest.raises(KeyboardInterrupt):
            first.result(5)
        assert second.result(5) == 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 10), st.integers(1, 60))
def test_bounds(items: list[int], most: int, size: int) -> None:
    """No batch has more items or bytes than it may, but for one item alone; answers keep the order."""
    batches: list[list[int]] = []

    def flush(batch: Sequence[int]) -> list[int]:
        batches.append(list(batch))
        return [item + 1 for item in batch]

    batcher = Batcher(flush, size_of=lambda item: item, max_items=most, max_bytes=size)

    assert batcher.call_many(items) == [item + 1 for item in items]
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) <= most and (len(batch) == 1 or sum(batch) <= size) for batch in batches)


def test_nothing_is_sent_behind_a_batch_that_failed() -> None:
    """Of many items those behind a batch that failed stay here; those before it were sent."""
    sent: list[list[int]] = []

    def flush(batch: Sequence[int]) -> list[int]:
        sent.append(list(batch))
        if -1 in batch:
            raise ValueError("minus one")
        return list(batch)

    with pytest.raises(ValueError, match="minus one"):
        Batcher(flush, max_items=2).call_many([1, 2, 3, -1, 5, 6])

    assert sent == [[1, 2], [3, -1]]
