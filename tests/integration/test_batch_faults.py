"""Batches that meet a fault: an item that cannot be, an answer that is lost, a commit that fails."""

from __future__ import annotations

import itertools
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from ledger_world import World
from support import wait_until
from support_hub import Caller, running_hub
from support_proxy import Exchange, Fault, FaultProxy, cdm_through

from blocks_worker import AgentInstanceOptions, TaskClient, start_agent_instance
from blocks_worker.client.tasks import ListTasksParams
from blocks_worker.config import state_dir
from blocks_worker.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blocks_worker.hub.store.ledger import Ledger

TASKS = "/api/v1/tasks"
#: What SQLite asks before it commits.
_COMMIT = (sqlite3.SQLITE_TRANSACTION, "COMMIT")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run one hub for all."""
    with running_hub(tmp_path_factory.mktemp("hub")) as caller:
        caller.connect("batched", maxPendingBacklog=100_000)
        yield caller


#: Items that are refused, each with its status.
BAD: list[tuple[Any, int]] = [
    ({"agentName": 7}, 400),
    (None, 400),
    ({"agentName": "batched", "deadline": 1}, 201),
    ({"agentName": "nobody"}, 404),
    ({"agentName": "batched", "billingMode": "paid"}, 409),
    ({"agentName": "batched", "idempotencyKey": "used", "metadata": {"other": 1}}, 422),
]


@pytest.mark.parametrize("place", range(4))
def test_each_status_in_each_place(hub: Caller, place: int) -> None:
    """Whatever one item is answered, and wherever it stands, the others are taken in, in their places. [J7]"""
    token = hub.consumer()["accessToken"]
    hub.ask("POST", TASKS, {"agentName": "batched", "idempotencyKey": "used"}, bearer=token)
    for item, status in BAD:
        batch: list[Any] = [{"agentName": "batched"} for _ in range(3)]
        batch.insert(place, item)
        answered = hub.ask("POST", TASKS, batch, bearer=token).json

        assert [one["status"] for one in answered] == [status if at == place else 201 for at in range(4)], item
        kept = [one["body"]["taskId"] for at, one in enumerate(answered) if at != place]
        assert all(hub.ask("GET", f"{TASKS}/{task}", bearer=token).status == 200 for task in kept)


@pytest.mark.parametrize(("place", "count"), [(0, 3), (1, 3), (2, 3), (0, 256), (128, 256), (255, 256)])
def test_an_item_that_raises_in_each_place(place: int, count: int) -> None:
    """A set that fails in the middle of a commit takes neither its neighbours nor their messages with it. [J7] [J9]"""

    def noting(number: int) -> Callable[[Ledger], int]:
        def work(ledger: Ledger) -> int:
            ledger.set_meta(f"k{number}", "x")
            if number == place:
                raise LookupError("no")
            return number

        return work

    with World() as world:
        works = [noting(number) for number in range(count)]
        results = world.store.write_many(works, [f"t{number}" for number in range(count)]).result(10)
        kept = world.store.read(lambda ledger: [ledger.meta(f"k{number}") for number in range(count)])

    assert [at for at, result in enumerate(results) if isinstance(result, LookupError)] == [place]
    assert [at for at, value in enumerate(kept) if value is None] == [place]


def test_a_commit_that_fails_is_nobodys(tmp_path: Path) -> None:
    """When the commit itself fails all of its group are told, nothing of it is said, nothing is there. [J9]"""
    with World(tmp_path / "ledger.sqlite3") as world:
        world.add_agent()
        world.join()
        said = len(world.said)

        def broken(ledger: Ledger) -> None:
            ledger._driver.set_authorizer(
                lambda act, name, *_rest: sqlite3.SQLITE_DENY if (act, name) == _COMMIT else sqlite3.SQLITE_OK
            )

        works = [lambda ledger: ledger.set_meta("a", "x"), broken, lambda ledger: ledger.set_meta("b", "x")]
        errors = world.store.write_many(works, ["a", "t", "b"]).result(10)

        assert all(isinstance(error, StoreError) for error in errors), errors
        assert len(world.said) == said
        late = world.store.write(lambda ledger: ledger.set_meta("c", "x")).exception(10)
        assert isinstance(late, StoreError)
    with World(tmp_path / "ledger.sqlite3") as world:
        assert world.store.read(lambda ledger: [ledger.meta(key) for key in "abc"]) == [None] * 3


@pytest.mark.parametrize("count", [1, 2, 256])
def test_a_lost_answer_to_a_batch_is_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The answer of each kind of batch is lost: each task is there once, runs once, and ends once. [J8] [B9] [B10]"""
    runs = itertools.count()
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as proxy:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        options = AgentInstanceOptions(
            agent_name="echo",
            handler=lambda task: f"{next(runs)} {task.text()}",
            concurrency=64,
            cdm_url=cdm,
            embedded_hub=False,
            heartbeat_ms=1000,
        )
        with (
            start_agent_instance(options) as instance,
            TaskClient.create("free", cdm_url=cdm, api_key=hub.key, timeout=30) as client,
        ):
            instance.wait_ready(30)
            for path in ("tasks", "claims", "reports"):
                proxy.fail(Fault.DROP_REPLY, to(path), times=2)
            sessions = client.send_many([{"agent_name": "echo", "request_parts": str(one)} for one in range(count)])
            texts = sorted(session.text(60).split()[1] for session in sessions)
            stored = client.list_tasks(ListTasksParams(limit=256)).tasks
            lost = [exchange.path for exchange in proxy.exchanges if exchange.fault is Fault.DROP_REPLY]
            wait_until(lambda: not instance.active_tasks, what="the end")

    assert texts == sorted(map(str, range(count)))
    assert next(runs) == count
    assert {row.task_id for row in stored} == {session.task_id for session in sessions}
    assert len(stored) == count
    assert {path.rpartition("/")[2] for path in lost} == {"tasks", "claims", "reports"}


def to(path: str) -> Callable[[Exchange], bool]:
    """Return what fits exchanges with this address."""
    return lambda exchange: exchange.path == f"/api/v1/{path}"
