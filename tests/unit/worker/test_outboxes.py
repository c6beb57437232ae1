"""What travels together, and what waits because something of it is on its way."""

from __future__ import annotations

from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.events import EventBody
from blocks_worker.worker.outbox import HOLD, Outbox
from blocks_worker.worker.outboxes import MANY, Outboxes
from blocks_worker.worker.run import Ending

NOW = 100.0
SAID = encode(EventBody(type="progress", progress=0.5))


def opened(task: str) -> Outbox:
    """Return the outbox of a run that has its lease."""
    box = Outbox((task, 1))
    box.open("lease", NOW - 2 * HOLD)
    return box


def ended(task: str) -> Outbox:
    """Return the outbox of a run that has ended."""
    box = opened(task)
    box.finish(Ending("completed"), NOW)
    return box


def test_many_are_parted_into_two_requests() -> None:
    """The hub writes one half down while the other one is on its way: all are under way, none is twice."""
    boxes = Outboxes()
    for number in range(4 * MANY):
        boxes.speaks(ended(str(number)))

    first, second = boxes.gather(NOW), boxes.gather(NOW)

    assert (len(first), len(second)) == (2 * MANY, 2 * MANY)
    assert {box.key for box, _ in first} | {box.key for box, _ in second} == {box.key for box in boxes.all()}
    assert boxes.gather(NOW) == []


def test_few_go_together_and_the_next_wait_for_their_answer() -> None:
    """A second request for one report would cost more than it brings."""
    boxes = Outboxes()
    for number in range(MANY):
        boxes.speaks(ended(str(number)))
    first = boxes.gather(NOW)
    assert len(first) == MANY

    boxes.speaks(ended("next"))
    assert boxes.gather(NOW) == []
    for box, _ in first:
        boxes.over(box)
    boxes.sent(first)
    assert [box.key for box, _ in boxes.gather(NOW)] == [("next", 1)]


def test_of_one_run_one_report_is_on_its_way() -> None:
    """What it says meanwhile goes when that was answered, however much else goes."""
    boxes, box = Outboxes(), opened("talks")
    box.append(SAID)
    boxes.speaks(box)
    first = boxes.gather(NOW)
    box.append(SAID)
    boxes.speaks(box)
    for number in range(MANY):
        boxes.speaks(ended(str(number)))

    second = boxes.gather(NOW)
    assert box not in [each for each, _ in second]
    assert boxes.dues() == []
    ((_, report),) = first
    box.answered(report)
    boxes.sent(first)
    assert [[event.n for event in report.events] for _, report in boxes.gather(NOW)] == []
    boxes.sent(second)
    assert ("talks", [2]) in [(each.key[0], [event.n for event in report.events]) for each, report in boxes.gather(NOW)]


def test_what_failed_counts_as_ended_again() -> None:
    """A request without an answer leaves all as it was."""
    boxes = Outboxes()
    for number in range(MANY):
        boxes.speaks(ended(str(number)))
    boxes.sent(boxes.gather(NOW))
    assert boxes.are_many
    assert len(boxes.gather(NOW)) == MANY
