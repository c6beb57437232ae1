"""What one owner, and one run, may have of a hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import ANN, BOB, World, done

from blocks_worker.concurrency import Deadline
from blocks_worker.hub.problems import RefusalError
from blocks_worker.protocol.tasks import Problem
from blocks_worker.quotas import Quotas

if TYPE_CHECKING:
    from blocks_worker.hub.answers import Reply


def told(reply: Reply) -> tuple[int, str, Any, Any]:
    """Return status and code of a refusal, which quota it was, and when to ask again."""
    assert isinstance(reply.body, Problem), reply
    details = reply.body.details or {}
    return reply.status, reply.body.code, details.get("quota"), details.get("retryAfter")


def world_with(**quotas: int) -> World:
    """Return a hub with an agent that everybody may call."""
    made = World(quotas=Quotas(**quotas))
    made.add_agent()
    return made


def test_new_tasks_come_only_so_fast() -> None:
    """[G15] Twice a second's share may come at once; then each waits for its turn, and another owner does not."""
    with world_with(submits=2) as world:
        first = [world.submit(task_id=f"t{number}").status for number in range(4)]
        refused = told(world.submit(task_id="t4"))
        other = world.submit(BOB, task_id="b1").status
        again = world.submit(task_id="t3").status
        world.clock.advance(0.5)
        later = [world.submit(task_id=f"t{number}").status for number in (4, 5)]

        assert (first, refused) == ([201] * 4, (429, "QuotaExceeded", "submits", 0.5))
        assert (other, again, later) == (201, 200, [201, 429])
        assert world.shares.refused == {"submits": 2}


def test_open_tasks_have_a_limit_of_each_owner() -> None:
    """[G15] So many tasks of one owner are open; one that ends makes room, and the same task again is no new one."""
    with world_with(open_tasks=3) as world:
        holder = world.join()
        lease = world.run(holder, "t0")
        for number in (1, 2):
            world.add(f"t{number}")
        assert told(world.submit(task_id="t3"))[:3] == (429, "QuotaExceeded", "openTasks")
        assert (world.submit(BOB, task_id="b1").status, world.submit(task_id="t2").status) == (201, 200)
        world.report(holder, lease, "t0", outcome=done())
        ended = [world.submit(task_id=f"n{number}").status for number in range(2)]
        for number in (1, 2):
            world.cancel(f"t{number}")

        assert ended == [201, 429]
        assert [world.submit(task_id=f"m{number}").status for number in range(3)] == [201, 201, 429]


def test_many_open_tasks_are_not_counted_for_each_refusal() -> None:
    """[G15] Where the limit is high, who was refused is refused again until the count is a little old."""
    with world_with(open_tasks=200) as world:
        for number in range(200):
            world.add(f"t{number}")
        refused = world.submit(task_id="n0").status
        world.cancel("t0")
        at_once = world.submit(task_id="n0").status
        world.clock.advance(0.002)

        assert [refused, at_once, world.submit(task_id="n0").status] == [429, 429, 201]


def test_a_hub_that_starts_again_counts_what_is_open(tmp_path: Any) -> None:
    """[G15] The limit of open tasks holds over a restart."""
    with World(tmp_path / "hub.sqlite3", quotas=Quotas(open_tasks=2)) as world:
        world.add_agent()
        for number in range(2):
            world.add(f"t{number}")
        world.store.close(Deadline(10))
        world.boot()

        assert world.submit(task_id="t3").status == 429


def test_inputs_that_are_kept_have_a_limit() -> None:
    """[G15] Inputs of one owner may have so many bytes, until some are purged; a larger one is refused for good."""
    with world_with(input_bytes=3_000) as world:
        world.add("t0", metadata={"x": "y" * 1500})
        refused = told(world.submit(task_id="t1", metadata={"x": "y" * 1500}))
        huge = told(world.submit(task_id="t2", metadata={"x": "y" * 3000}))
        world.cancel("t0")
        world.purge("t0")
        world.clock.advance(1.1)

        assert (refused, huge) == (
            (429, "QuotaExceeded", "inputBytes", 5.0),
            (413, "QuotaExceeded", "inputBytes", None),
        )
        assert world.do(lambda ledger: ledger.room_used("ann")) == 0
        assert world.submit(task_id="t1", metadata={"x": "y" * 1500}).status == 201


def test_files_that_are_inputs_count_with_them() -> None:
    """[G15] A file takes room of its owner's inputs before its first byte is sent."""
    with world_with(input_bytes=3_000) as world:
        world.do(lambda ledger: world.shares.take_file(ledger, ANN.owner, 2_900))
        with pytest.raises(RefusalError) as caught:
            world.do(lambda ledger: world.shares.take_file(ledger, ANN.owner, 200))

        assert (caught.value.status, caught.value.headers) == (429, (("retry-after", "5"),))
        assert world.submit(task_id="t1").status == 429


def test_a_run_stores_so_many_events_and_still_ends() -> None:
    """[G14] Beyond its share of events a report is refused for good, and the run's end is taken all the same."""
    with world_with(run_events=3) as world:
        holder = world.join()
        lease = world.run(holder)
        assert world.report(holder, lease, events=(1, 2, 3)).status == 200
        refused = world.report(holder, lease, events=(4,))
        ended = world.report(holder, lease, outcome=done(3, state="failed", error_code="event_quota"))

        assert told(refused)[:3] == (413, "event_quota", "runEvents")
        assert (ended.status, world.row().state, world.row().error_code) == (200, "FAILED", "event_quota")
        assert world.shares.refused == {"runEvents": 1}


def test_a_run_stores_so_many_bytes_of_events() -> None:
    """[G14] The bytes of a run's events are bounded too, and each run begins with none."""
    with world_with(run_event_bytes=90) as world:
        holder = world.join()
        lease = world.run(holder)
        stored = [world.report(holder, lease, events=(n,)).status for n in (1, 2, 3)]
        before = world.row().event_bytes
        world.report(holder, lease, release=True)
        lease = world.lease(holder)

        assert (stored, before > 50) == ([200, 200, 413], True)
        assert world.report(holder, lease, events=(1, 2)).status == 200


def test_none_means_no_limit() -> None:
    """A quota of 0 refuses nothing."""
    with world_with(open_tasks=0, submits=0, input_bytes=0, run_events=0, run_event_bytes=0) as world:
        holder = world.join()
        lease = world.run(holder)

        assert [world.submit(task_id=f"n{number}").status for number in range(20)] == [201] * 20
        assert world.report(holder, lease, events=(1, 2, 3)).status == 200
