"""What is kept back and run together: the same rows as one after the other, and nobody pays for another's mistake."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from ledger_world import ANN, World

from blocks_worker.protocol.leases import Claim, ClaimAnswer, Outcome, Report, ReportEvent
from blocks_worker.protocol.tasks import SubmitTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from blocks_worker.hub.answers import Reply
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.hub.task_service import Holder

Work = tuple[str, "Callable[[Ledger], Reply]"]
COUNT = 5
NAMES = [f"t{number}" for number in range(COUNT)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Give a ledger in a file."""
    with World(tmp_path / "ledger.sqlite3") as world:
        world.add_agent(concurrency=COUNT)
        yield world


def submission(world: World, name: str, **fields: Any) -> Work:
    """Return the work of a submit."""
    request = SubmitTask(agent_name="echo", request_parts=msgspec.Raw(b'[{"text":"hi"}]'), task_id=name, **fields)
    return name, lambda ledger: world.tasks.submit(ledger, ANN, request)


def claim(world: World, holder: Holder, name: str) -> Work:
    """Return the work of a claim."""
    return name, lambda ledger: world.tasks.claim(ledger, holder, Claim(task_id=name, epoch=1, have=None))


def report(world: World, holder: Holder, name: str, lease: str, *, first: int = 1) -> Work:
    """Return the work of a report of two events and a result."""
    body = msgspec.Raw(b'{"type":"progress","progress":0.5}')
    events = [ReportEvent(n=first + place, body=body) for place in range(2)]
    outcome = Outcome(state="completed", last_n=first + 1, digest="d")
    item = Report(task_id=name, epoch=1, lease=lease, events=events, outcome=outcome)
    return name, lambda ledger: world.tasks.report(ledger, holder, item)


def together(world: World, works: Sequence[Work]) -> list[Any]:
    """Have the works run as one group."""
    return world.store.write_many([act for _, act in works], [name for name, _ in works]).result(10)


def leases(replies: Sequence[Reply]) -> list[str]:
    """Return the leases that claims were answered with."""
    return [reply.body.lease for reply in replies if isinstance(reply.body, ClaimAnswer)]


def _known_and_stored(ledger: Ledger, act: Callable[[Ledger], Reply], name: str) -> tuple[Any, Any]:
    """Do it; return the row as it is known then, and as the database has it."""
    reply = act(ledger)
    assert reply.status in {200, 201}, reply
    known = ledger.task(name)
    _ = ledger.connection  # whoever asks for it may change anything: nothing is kept, and nothing known, behind this
    return known, ledger.task(name)


def test_a_kept_turn_is_known_as_it_will_be(world: World) -> None:
    """After each frequent turn the row is, field by field, what the statement makes of it."""

    def shown(work: Work) -> tuple[TaskRecord, TaskRecord]:
        name, act = work
        (pair,) = world.store.write_many([partial(_known_and_stored, act=act, name=name)], [name]).result(10)
        return pair  # type: ignore[no-any-return]  # what that returned

    holder = world.join(concurrency=COUNT)
    rows = [shown(submission(world, "t0")), shown(claim(world, holder, "t0"))]
    (lease,) = leases(together(world, [claim(world, holder, "t0")]))
    rows.append(shown(report(world, holder, "t0", lease)))

    assert [stored.state for _, stored in rows] == ["QUEUED", "RUNNING", "COMPLETED"]
    assert all(known == stored for known, stored in rows)
    assert world.store.counts["groups_undone"] == 0


@pytest.mark.parametrize(("is_linked", "state"), [(False, "OFFERED"), (True, "RUNNING")])
def test_an_offer_is_known_as_it_will_be(world: World, is_linked: bool, state: str) -> None:
    """The offer that ends a group, granted or not, leaves the row as its statement does."""
    world.is_linked = is_linked
    holder = world.join(concurrency=COUNT)
    seen: list[tuple[Any, Any]] = []

    def look(ledger: Ledger) -> None:
        known = ledger.task("t0")
        _ = ledger.connection
        seen.append((known, ledger.task("t0")))

    def submit_and_look(ledger: Ledger) -> Reply:
        reply = submission(world, "t0")[1](ledger)
        ledger.put_off("look", partial(look, ledger))
        return reply

    world.store.write_many([submit_and_look], ["t0"]).result(10)

    ((known, stored),) = seen
    assert (stored.state, stored.inc) == (state, holder.incarnation)
    assert known == stored


def test_many_tasks_are_one_group(world: World) -> None:
    """A batch of each kind leaves what single requests leave: rows, events, and the order of what is said."""
    holder = world.join(concurrency=COUNT)
    assert [reply.status for reply in together(world, [submission(world, name) for name in NAMES])] == [201] * COUNT
    given = leases(together(world, [claim(world, holder, name) for name in NAMES]))
    replies = together(world, [report(world, holder, name, lease) for name, lease in zip(NAMES, given, strict=True)])

    assert [reply.status for reply in replies] == [200] * COUNT
    assert all(world.row(name).state == "COMPLETED" for name in NAMES)
    assert all(
        [event["type"] for event in world.events(name)] == ["progress", "progress", "terminal"] for name in NAMES
    )
    assert world.store.counts["groups_undone"] == 0


def test_events_and_their_outcome_may_come_as_two_items(world: World) -> None:
    """Two reports of one task in a batch are recorded in their order."""
    holder = world.join(concurrency=COUNT)
    together(world, [submission(world, "t0")])
    (lease,) = leases(together(world, [claim(world, holder, "t0")]))
    body = msgspec.Raw(b'{"type":"progress","progress":0.1}')
    early = Report(task_id="t0", epoch=1, lease=lease, events=[ReportEvent(n=1, body=body)])
    first: Work = ("t0", lambda ledger: world.tasks.report(ledger, holder, early))
    replies = together(world, [first, report(world, holder, "t0", lease, first=2)])

    assert [reply.status for reply in replies] == [200, 200]
    assert [event.get("n") for event in world.events("t0")] == [1, 2, 3, None]


def test_the_same_key_twice_in_a_group_is_one_task(world: World) -> None:
    """[B8] A second submit under a key finds the first, though nothing of it was written yet."""
    works = [submission(world, name, idempotency_key="k") for name in ("t0", "t1")]
    first, second = together(world, works)

    assert (first.status, second.status) == (201, 200)
    assert second.body.task_id == "t0"


def test_a_set_that_raises_leaves_nothing_behind(world: World) -> None:
    """[J7] What it had kept is dropped with it; its neighbours stand, and the group is not run again."""

    def bad(ledger: Ledger) -> Reply:
        submission(world, "t1")[1](ledger)
        raise LookupError("no")

    first, broken, last = together(world, [submission(world, "t0"), ("t1", bad), submission(world, "t2")])

    assert (first.status, last.status) == (201, 201)
    assert isinstance(broken, LookupError)
    assert world.store.read(lambda ledger: ledger.task("t1")) is None
    assert world.store.counts["groups_undone"] == 0


@pytest.mark.parametrize("place", range(3))
def test_a_row_that_is_not_as_expected_is_found_out(world: World, place: int) -> None:
    """[J7] A turn whose row changed behind its back is refused by itself, wherever it stands in its group."""
    holder = world.join(concurrency=COUNT)
    together(world, [submission(world, name) for name in NAMES[:3]])
    works = [claim(world, holder, name) for name in NAMES[:3]]
    name, act = works[place]

    def behind_its_back(ledger: Ledger) -> Reply:
        """Claim what is known as offered, and is not: another writer was there between."""
        row = ledger.task(name)
        assert row is not None
        changed = ledger._driver.execute("UPDATE task SET epoch = 7 WHERE id = ?", (name,)).rowcount
        assert changed == 1
        assert ledger.task(name) is row
        return act(ledger)

    works[place] = (name, behind_its_back)
    replies = together(world, works)

    assert [reply.status for reply in replies] == [409 if at == place else 200 for at in range(3)]
    assert world.store.counts["groups_undone"] == 1
