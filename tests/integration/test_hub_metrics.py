"""The hub's metrics and conditions, over HTTP, with real workers and a restart."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from support import wait_until
from support_hub import let_in, running_hub
from support_metrics import Scraped, page, scrape

from blocks_worker.hub.readiness import SWEPT_LATELY
from blocks_worker.observability.families import HUB, PROCESS, WORKER
from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from pathlib import Path

TASKS, FAILED, CANCELED = 1000, 70, 30


class Work:
    """A handler that fails when told to, and one that waits to be let go or cancelled."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.holds = threading.Event()

    def work(self, task: Any) -> str:
        """Answer, or fail."""
        if task.text() == "fail":
            raise ValueError("as you wish")
        return "done"

    def hold(self, _task: Any, ctx: Any) -> str:
        """Wait."""
        self.holds.set()
        while not self.go.wait(0.05) and not ctx.is_cancelled:
            pass
        return "held"


def counts(told: Scraped) -> dict[str, float]:
    """Return what became of the tasks."""
    ended = {state: told.sum("blocks_hub_tasks_total", state=state) for state in ("completed", "failed", "canceled")}
    open_now = told.sum("blocks_hub_queue_depth") + told.sum("blocks_hub_tasks_running")
    return {**ended, "open": open_now, "accepted": told.sum("blocks_hub_tasks_accepted_total")}


def test_a_thousand_tasks_add_up_before_and_after_a_restart() -> None:
    """Every family that counts tasks has all of them, by their end, and still after the hub was started anew. [R-54]"""
    work = Work()
    options = {"work": {"handler": work.work, "concurrency": 16}, "hold": {"handler": work.hold, "concurrency": 1}}
    with LocalStack(options) as stack:
        words = ["fail"] * FAILED + ["well"] * (TASKS - FAILED - CANCELED)
        sent = stack.client.send_many(
            [{"agent_name": "work", "request_parts": [{"partId": "p", "text": word}]} for word in words]
        )
        held = stack.client.send_many([{"agent_name": "hold", "request_parts": []} for _ in range(CANCELED)])
        open_then = wait_until(lambda: running(scrape(stack.url)), 90, "the one that holds")
        for session in reversed(held):  # the one that runs last, so that no other takes its slot
            session.cancel("enough")
        for session in (*sent, *held):
            session.wait_for_terminal(timeout=60)
        expected = {
            "completed": TASKS - FAILED - CANCELED,
            "failed": FAILED,
            "canceled": CANCELED,
            "open": 0,
            "accepted": TASKS,
        }
        # What is dear to count is told again for a moment.
        before = wait_until(lambda: _adding_up(scrape(stack.url), expected), what="all of them are counted")
        # A worker counts its last run once it was heard that it ended.
        wait_until(lambda: sum(before_restart(stack).values()) > TASKS - CANCELED, what="all runs are counted")
        runs = before_restart(stack)
        stack.restart_hub()
        after = scrape(stack.url)

    assert open_then.sum("blocks_hub_queue_depth", agent="hold") == CANCELED - 1
    assert open_then.sum("blocks_hub_queue_oldest_seconds", agent="hold") > 0
    assert (counts(before), counts(after)) == (expected, expected)
    # Those that were cancelled in the queue never were runs.
    assert runs == {"completed": expected["completed"], "failed": FAILED, "canceled": 1, "expired": 0, "released": 0}


def running(told: Scraped) -> Scraped | None:
    """Return what was told when one task holds and nothing else is open."""
    is_so = told.sum("blocks_hub_tasks_running") == 1 and told.sum("blocks_hub_queue_depth", agent="work") == 0
    return told if is_so and told.sum("blocks_hub_tasks_running", agent="hold") == 1 else None


def _adding_up(told: Scraped, expected: dict[str, int]) -> Scraped | None:
    return told if counts(told) == expected else None


def before_restart(stack: LocalStack) -> dict[str, int]:
    """Return the runs of all workers by their end."""
    found: dict[str, int] = {}
    for agent in stack.agents.values():
        for sample in agent.insight.samples():
            if sample.family == "blocks_worker_runs_total":
                assert isinstance(sample.value, int)
                found[sample.labels[-1]] = found.get(sample.labels[-1], 0) + sample.value
    return found


def test_what_the_hub_tells_is_what_the_table_says() -> None:
    """Each family of the table is told, under its type, and no other."""
    with LocalStack({"work": Work().work}) as stack:
        stack.run("work", "well")
        told = scrape(stack.url)
        kinds = {line.split()[2]: line.split()[3] for line in told.text.splitlines() if line.startswith("# TYPE ")}

    assert kinds == {family.name: family.kind for family in (*HUB, *PROCESS)}
    assert not {family.name for family in WORKER} & set(kinds)


def test_numbers_of_the_hub_as_it_stands() -> None:
    """Requests by route and status, commits, instances, slots and messages are told. [R-54]"""
    with LocalStack({"work": {"handler": Work().work, "concurrency": 3}}) as stack:
        task = stack.run("work", "well").task_id
        page(f"{stack.url}/api/v1/tasks/{task}")
        page(f"{stack.url}/nowhere/{task}")
        told = scrape(stack.url)
        (instance,) = [agent.instance_id for agent in stack.agents.values()]

    name = "blocks_hub_http_request_seconds_count"
    assert told.text.count(task) == 0
    assert told.by("status", name, route="/api/v1/tasks/{task_id}", method="GET") == {"4xx": 1}
    assert told.by("status", name, route="(others)") == {"4xx": 1}
    assert told.sum(name, route="/api/v1/claims", status="2xx") >= 1
    assert told.sum("blocks_hub_commit_group_size_count") > 3
    assert told.sum("blocks_hub_slots", agent="work") == 3
    assert told.sum("blocks_hub_instances", agent="work", state="ready") == 1
    assert told.sum("blocks_hub_instance_ready", instance=instance) == 1
    assert told.sum("blocks_hub_instance_silent_seconds", instance=instance) < 10
    assert told.sum("blocks_hub_messages_published_total") >= 3
    assert told.sum("blocks_hub_network_connections") >= 1


def test_retries_and_refused_offers_are_counted() -> None:
    """A failure that is followed by another run, and a lease that was given back, count once each. [R-54]"""
    work = Work()
    with LocalStack({"work": work.work, "hold": work.hold}) as stack:
        policy = {"maxAttempts": 2, "initialDelaySec": 0.1}
        session = stack.client.send_message(
            agent_name="work", request_parts=[{"partId": "p", "text": "fail"}], retry_policy=policy
        )
        session.wait_for_terminal(timeout=20)
        stack.client.send_message(agent_name="hold", request_parts=[])
        # What has only a slot is refused at a drain; what has its lease is given back.
        assert work.holds.wait(30)
        stack.agents["hold"].drain(0)
        wait_until(
            lambda: scrape(stack.url).sum("blocks_hub_leases_released_total") == 1, what="the lease that came back"
        )
        told = scrape(stack.url)

    assert told.sum("blocks_hub_retries_total") == 1
    assert told.sum("blocks_hub_lease_lost_total") == 0


def test_a_hub_without_its_network_is_not_ready() -> None:
    """The hub says which condition does not hold, and lives. [R-54]"""
    with LocalStack({"work": Work().work}) as stack:
        well = page(f"{stack.url}/readyz")
        stack.cut_network()
        answered = page(f"{stack.url}/readyz")
        told = scrape(stack.url)
        alive = [page(f"{stack.url}{path}").status for path in ("/livez", "/healthz")]

    assert (well.status, [one["name"] for one in well.json["conditions"]]) == (200, ["ledger", "sweeps", "network"])
    assert (answered.status, alive) == (503, [200, 200])
    assert [one["name"] for one in answered.json["conditions"] if not one["ok"]] == ["network"]
    assert told.by("condition", "blocks_hub_condition") == {"ledger": 1, "sweeps": 1, "network": 0}
    assert SWEPT_LATELY > 5


def test_elsewhere_the_owner_alone_sees_the_metrics(tmp_path: Path) -> None:
    """A hub that is said to be public shows its metrics to the key of its state folder, and to no other. [R-54]"""
    with running_hub(tmp_path):
        pass
    other = let_in(tmp_path, "somebody")
    with running_hub(tmp_path) as here:
        open_to_all = here.ask("GET", "/metrics").status
    with running_hub(tmp_path, public=True) as hub:
        statuses = [hub.ask("GET", "/metrics", bearer=key).status for key in (None, "bk_wrong", other, hub.key)]
        probes = [hub.ask("GET", path).status for path in ("/livez", "/readyz")]

    assert open_to_all == 200
    assert statuses == [401, 401, 403, 200]
    assert probes == [200, 200]
