"""What comes at the same moment: threads let go together, in every order; one of them counts, and all are told so."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import World, done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.hub.task_service import Holder

#: How a task may end here: its state, why, and the code of its error.
ENDS = {
    ("COMPLETED", None, None),
    ("CANCELLED", "enough", None),
    ("CANCELLED", "terminated", None),
    ("EXPIRED", "deadline", "timeout"),
    ("EXPIRED", "queue_ttl", "timeout"),
    ("EXPIRED", "max_runtime", "timeout"),
}


@pytest.fixture
def world() -> Iterator[World]:
    """Be a hub with one agent."""
    with World() as made:
        made.add_agent(max_running_time_sec=5)
        yield made


def at_once(acts: list[Callable[[], Any]], dice: random.Random) -> list[Any]:
    """Do all of it from threads of their own that begin together, in an order that chance gives; return the results."""
    barrier = threading.Barrier(len(acts))
    results: list[Any] = [None] * len(acts)

    def do(place: int) -> None:
        barrier.wait(10)
        results[place] = acts[place]()

    threads = [threading.Thread(target=do, args=(place,)) for place in dice.sample(range(len(acts)), len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return results


def told(world: World, key: str) -> tuple[str, str | None, str | None]:
    """Return how a task ended, by its row, once its one terminal event says the same."""
    row = world.row(key)
    (terminal,) = [event for event in world.events(key) if event["type"] == "terminal"]
    assert (terminal.get("reason"), terminal.get("errorCode")) == (row.reason, row.error_code)
    return row.state, row.reason, row.error_code


def round_of(world: World, holder: Holder, key: str, dice: random.Random) -> tuple[str, str | None, str | None]:
    """Have limits, claim, outcome and cancel meet on one task, claimed before or not."""
    limit = dice.choice(["deadline", "queue_ttl", "none"])
    fields: dict[str, Any] = {
        "deadline": {"deadline": world.clock.wall_ms() + 1000},
        "queue_ttl": {"queue_ttl": 1},
        "none": {},
    }[limit]
    world.add(key, **fields)
    is_claimed = dice.random() < 0.5
    lease = world.lease(holder, key) if is_claimed else ""
    epoch = world.row(key).epoch
    world.clock.advance(8.0 if limit == "none" else 1.0)
    acts: list[Callable[[], Any]] = [
        lambda: world.do(world.sweeper.sweep),
        lambda: world.cancel(key, reason="enough", terminated=dice.random() < 0.3),
        lambda: world.claim(holder, key, epoch),
        lambda: world.report(holder, lease, key, epoch=epoch, outcome=done()),
    ]
    _, cancel, claim, report = at_once(acts, dice)
    row = world.row(key)
    if claim.status == 200 and not is_claimed and row.ended is None:
        # It has the lease now: its outcome is the end, whatever else was asked for.
        report = world.report(holder, claim.body.lease, key, epoch=epoch, outcome=done())
        assert report.status in {200, 409}
    for _ in range(5):
        world.beat(holder, (key, epoch))
        world.sweep(8.0)
    world.beat(holder)
    end = told(world, key)
    assert (report.status == 200) == (end[0] == "COMPLETED")
    assert cancel.status in {200, 202}
    again = world.report(holder, lease or "x", key, epoch=epoch, outcome=done(digest="e" * 64))
    assert again.status in {403, 409}, "whoever comes after the end changes nothing"
    assert told(world, key) == end
    return end


def test_limits_claims_outcomes_and_cancels_at_once(world: World, request: pytest.FixtureRequest) -> None:
    """One end, the reason is of the one that counted, and everybody was told the same. [J25] [B6] [I2]"""
    holder, dice = world.join(concurrency=1000), random.Random(25)
    rounds = 10_000 if request.config.getoption("--long") else 250
    found = Counter(round_of(world, holder, f"t{number}", dice) for number in range(rounds))

    assert set(found) <= ENDS
    assert {state for state, _, _ in found} == {"COMPLETED", "CANCELLED", "EXPIRED"}, found
    assert min(found[end] for end in ENDS if end[1] != "terminated") > 0, found
