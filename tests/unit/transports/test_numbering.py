import threading

import pytest

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import PublishTimeoutError
from blocks_worker.transports.numbering import Numbering


def spend(numbering: Numbering, channel: str, count: int) -> int:
    """Take a turn and spend so many numbers; return the first."""
    with numbering.turn(channel, Deadline(5)) as turn:
        first = turn.next
        turn.spend(count)
        return first


def test_numbers_are_contiguous_on_each_channel() -> None:
    """Each channel counts for itself, from 1."""
    numbering = Numbering()

    assert [spend(numbering, channel, 2) for channel in ("a", "b", "a", "a", "b")] == [1, 1, 3, 5, 3]


def test_a_number_that_was_given_back_is_the_next_one() -> None:
    """What surely was not sent leaves no hole."""
    numbering = Numbering()
    spend(numbering, "a", 3)
    with numbering.turn("a", Deadline(5)) as turn:
        turn.spend(2)
        turn.spend(-2)

    assert spend(numbering, "a", 1) == 4


def test_a_forgotten_channel_goes_on_above_its_numbers() -> None:
    """A number is never given twice, however many channels there are."""
    numbering = Numbering(channels=2)
    spend(numbering, "a", 10)
    spend(numbering, "b", 1)
    spend(numbering, "c", 1)

    assert spend(numbering, "a", 1) > 10


def test_a_turn_is_waited_for_until_the_deadline() -> None:
    """A sender that holds a channel keeps no other waiting beyond its time, and no other channel at all."""
    numbering = Numbering()
    with numbering.turn("a", Deadline(5)):
        refused: list[type] = []

        def other() -> None:
            with pytest.raises(PublishTimeoutError), numbering.turn("a", Deadline(0.05)):
                pass
            refused.append(PublishTimeoutError)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert refused
        assert spend(numbering, "b", 1) == 1
