import threading

import pytest
from support import wait_until

from blocks_worker.concurrency import Clock
from blocks_worker.errors import TransportClosedError
from blocks_worker.transports.base import Message
from blocks_worker.transports.inbox import Inbox


def note(number: int) -> Message:
    """Return a message to queue."""
    return Message("c", {"i": number}, number)


def test_what_was_put_is_taken_in_order_and_all_at_once() -> None:
    """One take empties the queue."""
    inbox = Inbox(Clock())
    inbox.put([(note(1), 1), (note(2), 1)])

    assert inbox.take(0) == (note(1), note(2))
    assert inbox.take(0) == ()


@pytest.mark.parametrize(("messages", "size", "held"), [(3, 1000, 3), (1000, 25, 3)])
def test_who_puts_waits_while_it_is_full(messages: int, size: int, held: int) -> None:
    """Neither more messages nor more bytes than allowed wait; the rest comes when there is room."""
    inbox = Inbox(Clock(), messages=messages, size=size)
    putter = threading.Thread(target=lambda: inbox.put([(note(number), 10) for number in range(10)]))
    putter.start()

    wait_until(lambda: inbox.depth() == held, what="the queue is full")
    taken: list[object] = []
    while len(taken) < 10:
        taken.extend(inbox.take(5))
    putter.join()
    assert taken == [note(number) for number in range(10)]
    assert inbox.blocked > 0


def test_who_takes_may_be_woken_for_nothing() -> None:
    """A wake ends the wait of now, or the next one, and no other."""
    inbox = Inbox(Clock())
    inbox.wake()

    assert inbox.take(None) == ()
    assert inbox.take(0) == ()
    threading.Timer(0.0, inbox.wake).start()
    assert inbox.take(None) == ()


def test_closing_wakes_both_sides() -> None:
    """Who waits to put gives up, who takes is told."""
    inbox = Inbox(Clock(), messages=1)
    told: list[bool] = []
    putter = threading.Thread(target=lambda: told.append(inbox.put([(note(1), 1), (note(2), 1)])))
    putter.start()
    wait_until(lambda: inbox.depth() == 1, what="the queue is full")

    inbox.close()
    putter.join()
    assert told == [False]
    with pytest.raises(TransportClosedError):
        inbox.take(None)
