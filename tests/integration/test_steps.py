"""Durable steps: done once, stored before the handler goes on, seen by every later run; real hub, worker and client."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import running_hub
from support_proxy import Exchange, Fault, FaultProxy, cdm_through
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker import AgentInstanceOptions, StepError, TaskCancelledError, TaskClient, start_agent_instance
from blocks_worker.cli.main import blocks
from blocks_worker.config import state_dir
from blocks_worker.errors import TaskFinishedError
from blocks_worker.protocol.steps import MAX_STEP
from blocks_worker.protocol.tasks import RetryPolicy
from blocks_worker.testing import LocalStack, run_handler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.context.task import TaskContext


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess(numbers=msgspec.structs.replace(NUMBERS, lease_ttl=60.0, cancel_grace=30.0)) as ledger:
        yield ledger


class Stepping:
    """A handler of two steps that waits between them, and notes what each run did and saw."""

    def __init__(self, padding: int = 0) -> None:
        self.padding = {"padding": "x" * padding} if padding else {}
        self.done: list[str] = []
        self.seen: list[Any] = []
        self.go = threading.Event()
        self.between = threading.Event()
        self.raised: BaseException | None = None

    def work(self, name: str) -> dict[str, int | str]:
        """Do a step: its value tells which one it was."""
        self.done.append(name)
        return {name: len(self.done), **self.padding}

    def __call__(self, _task: StartTaskMessage, ctx: TaskContext) -> str:
        """Do both."""
        self.seen.append(ctx.step("one", lambda: self.work("one")))
        self.between.set()
        self.go.wait(20)
        try:
            self.seen.append(ctx.step("two", lambda: self.work("two")))
        except BaseException as error:
            self.raised = error
            raise
        return "done"


def stored(hub: LedgerInProcess, task: str) -> dict[str, bytes]:
    """Return what is stored of a task's steps."""
    return dict(hub.store.read(lambda ledger: ledger.steps(task, "", 2000)))


# ------------------------------------------------------------------------------------------------ whole systems
@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_REPLY])
def test_a_lost_exchange_stores_a_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """[J19] Whether the report of a step or its answer is lost, three times: it is done once, and the run goes on."""
    handler = Stepping()
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as proxy:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        options = AgentInstanceOptions(
            agent_name="stepping", handler=handler, cdm_url=cdm, embedded_hub=False, heartbeat_ms=1000
        )
        with start_agent_instance(options) as instance, TaskClient.create("free", cdm_url=cdm) as client:
            instance.wait_ready(30)
            task = client.send_message("stepping", "x")
            assert handler.between.wait(20)

            def is_report(exchange: Exchange) -> bool:
                return exchange.path == "/api/v1/reports"

            proxy.fail(fault, is_report, times=3)
            handler.go.set()
            assert task.text(30) == "done"
            token = hub.consumer()["accessToken"]
            told = hub.ask("GET", f"/api/v1/tasks/{task.task_id}/steps", bearer=token).json

    assert handler.done == ["one", "two"]
    assert handler.seen == [{"one": 1}, {"two": 2}]
    assert told == {
        "steps": [{"name": "one", "value": {"one": 1}}, {"name": "two", "value": {"two": 2}}],
        "more": False,
    }


def test_a_task_that_is_sent_again_goes_on_from_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """[J22] What failed behind its first step does only the second one; where that is not wanted, both again."""
    fetched: list[str] = []
    mended = threading.Event()

    def fetch() -> int:
        fetched.append("once more")
        return len(fetched)

    def flaky(_task: StartTaskMessage, ctx: TaskContext) -> str:
        number = ctx.step("fetch", fetch)
        if not mended.is_set():
            raise LookupError("not yet")
        return f"fetched {number}"

    with LocalStack({"flaky": flaky}) as stack:
        old = stack.client.send_message("flaky", "x", retry_policy={"maxAttempts": 2, "initialDelaySec": 0})
        assert old.wait_for_terminal(20).state == "failed"
        mended.set()
        monkeypatch.setenv("BLOCKS_API_KEY", stack.api_key)
        monkeypatch.setenv("BLOCKS_CDM_URL", f"{stack.url}/api/v1/cdm")
        typed = [["retry"], ["retry", "--no-steps"], ["dead", "redrive", "--no-steps"]]
        told = [CliRunner().invoke(blocks, [*words, old.task_id, "--json"]).stdout for words in typed]
        texts = [stack.client.connect(json.loads(each)["taskId"]).text(20) for each in told]

    assert texts[0] == "fetched 1"
    assert sorted(texts[1:]) == ["fetched 2", "fetched 3"]


@pytest.mark.parametrize("padding", [0, 40_000])
def test_a_policys_next_run_goes_on_from_the_steps(padding: int) -> None:
    """A run that failed is followed by one that does not repeat what was stored, little or much. [R-57] [J19]"""
    handler = Stepping(padding)
    handler.go.set()

    def twice(task: StartTaskMessage, ctx: TaskContext) -> str:
        said = handler(task, ctx)
        if ctx.attempt == 1:
            raise LookupError("not this time")
        return said

    with LocalStack({"twice": twice}) as stack:
        session = stack.client.send_message("twice", "x", retry_policy={"maxAttempts": 2, "initialDelaySec": 0})
        assert session.text(20) == "done"

    assert handler.done == ["one", "two"]
    assert handler.seen == [{"one": 1} | handler.padding, {"two": 2} | handler.padding] * 2


# ------------------------------------------------------------------------------------------------ the worker
def test_the_next_run_sees_what_a_dead_worker_stored(hub: LedgerInProcess) -> None:
    """[J19] A worker dies between two steps: the run after it is given the first one, and does only the second."""
    first, second = Stepping(), Stepping()
    second.go.set()
    with WorkerAtHub(hub, first) as dead:
        dead.ready()
        task = hub.submit()
        assert first.between.wait(10)
        dead.worker.kill()
        first.go.set()
        with WorkerAtHub(hub, second) as other:  # of the same name: the hub takes the lease from the dead one at once
            other.ready()
            assert hub.ended(task).state == "completed"
            wait_until(lambda: first.raised, what="the end of the first run")

    assert (first.done, second.done) == (["one"], ["two"])
    assert second.seen == [{"one": 1}, {"two": 1}]
    assert stored(hub, task) == {"one": b'{"one":1}', "two": b'{"two":1}'}
    assert isinstance(first.raised, TaskCancelledError | TaskFinishedError)


def test_a_zombies_step_is_refused(hub: LedgerInProcess) -> None:
    """[J19] Who lost the task while the hub was out of reach stores nothing: what the next run stored stays."""
    first, second = Stepping(), Stepping()
    second.go.set()
    with WorkerAtHub(hub, first) as zombie:
        zombie.ready()
        task = hub.submit()
        assert first.between.wait(10)
        zombie.login.cut.set()
        first.go.set()
        wait_until(lambda: first.done == ["one", "two"], what="the step that nobody stores is done")
        with WorkerAtHub(hub, second) as other:
            other.ready()
            assert hub.ended(task).state == "completed"
            zombie.login.cut.clear()
            wait_until(lambda: first.raised is not None, what="the zombie is told")

    assert stored(hub, task) == {"one": b'{"one":1}', "two": b'{"two":1}'}
    assert isinstance(first.raised, TaskFinishedError)


def test_many_steps_are_fetched_by_the_next_run(hub: LedgerInProcess) -> None:
    """[J19] Over 64 KiB in all they do not come with the lease: the run reads them before its first step."""
    done: list[str] = []
    large = "x" * (MAX_STEP - 2)

    def work(name: str) -> str:
        done.append(name)
        return large

    def handler(_task: Any, ctx: Any) -> str:
        values = [ctx.step(f"page {number}", lambda number=number: work(f"page {number}")) for number in range(10)]
        if ctx.attempt == 1:
            raise LookupError("not this time")
        return str(values == [large] * 10)

    with WorkerAtHub(hub, handler) as one:
        one.ready()
        task = hub.submit(retry_policy=RetryPolicy(max_attempts=2, initial_delay_sec=0))
        wait_until(lambda: hub.row(task).ready_at is not None, what="the first run has failed")
        hub.sweep()
        row = hub.ended(task)
        fetches = [call for call in one.login.calls if call[0] == "steps"]

    assert row.state == "completed"
    assert sorted(done) == sorted(f"page {number}" for number in range(10))
    assert len(fetches) == 2


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_answer_is_asked_for_again(hub: LedgerInProcess, lost: int) -> None:
    """[J19] The step whose answer was lost was stored: sent again, it is told as it is."""
    handler = Stepping()
    with WorkerAtHub(hub, handler) as one:
        one.ready()
        task = hub.submit()
        assert handler.between.wait(10)
        one.login.lose_replies = lost
        handler.go.set()
        assert hub.ended(task).state == "completed"

    assert handler.seen == [{"one": 1}, {"two": 2}]


def test_a_cancel_wakes_a_step_that_waits(hub: LedgerInProcess) -> None:
    """While the hub cannot be reached a step waits; the cancel of its task raises in it, and nothing hangs."""
    handler = Stepping()
    with WorkerAtHub(hub, handler) as one:
        one.ready()
        task = hub.submit()
        assert handler.between.wait(10)
        one.login.cut.set()
        handler.go.set()
        wait_until(lambda: handler.done == ["one", "two"], what="the second step is done")
        assert handler.raised is None
        hub.cancel(task)
        wait_until(lambda: handler.raised is not None, what="the step was woken")
        one.login.cut.clear()
        assert hub.ended(task).state == "canceled"

    assert isinstance(handler.raised, TaskCancelledError)
    assert set(stored(hub, task)) == {"one", "two"}, "what was done is kept, though its run was told to stop"


def test_no_step_is_begun_once_the_task_is_to_stop(hub: LedgerInProcess) -> None:
    """What is stored is still told, something new is not done any more."""
    seen: list[Any] = []

    def handler(_task: Any, ctx: Any) -> None:
        seen.append(ctx.step("one", lambda: 1))
        ctx.wait(20)
        seen.append(ctx.step("one", lambda: 2))
        ctx.step("two", lambda: seen.append("never"))

    with WorkerAtHub(hub, handler) as one:
        one.ready()
        task = hub.submit()
        wait_until(lambda: seen, what="the first step")
        hub.cancel(task)
        assert hub.ended(task).state == "canceled"
        wait_until(lambda: seen[1:], what="the handler")

    assert seen == [1, 1]


def test_a_drain_stores_the_step_that_is_being_done(hub: LedgerInProcess) -> None:
    """Given back in the middle of a step, the task goes on elsewhere behind it: the step goes ahead of the release."""
    done: list[str] = []

    def handler(_task: Any, ctx: Any) -> str:
        def work() -> str:
            done.append(f"attempt {ctx.attempt}")
            ctx.wait(20 if len(done) == 1 else 0)
            return done[0]

        return str(ctx.step("long", work))

    with WorkerAtHub(hub, handler) as one:
        one.ready()
        task = hub.submit()
        wait_until(lambda: done, what="the step was begun")
        one.worker.stop(0)
        assert (hub.row(task).state, stored(hub, task)) == ("pending", {"long": b'"attempt 1"'})
    with WorkerAtHub(hub, handler, name="two") as two:
        two.ready()
        assert hub.ended(task).state == "completed"

    assert done == ["attempt 1"]


def test_threads_of_a_run_share_a_step(hub: LedgerInProcess) -> None:
    """[J20] Whoever uses a name at the same moment gets one value, that which is stored."""

    def handler(_task: Any, ctx: Any) -> str:
        together = threading.Barrier(8)

        def one(number: int) -> Any:
            together.wait(10)
            return ctx.step("shared", lambda: number)

        with ThreadPoolExecutor(8) as threads:
            return str(len(set(threads.map(one, range(8)))))

    with WorkerAtHub(hub, handler) as worker:
        worker.ready()
        task = hub.submit()
        row = hub.ended(task)

    assert (row.state, len(stored(hub, task))) == ("completed", 1)
    assert [e["artifactRef"]["data"] for e in hub.events(task) if e["type"] == "artifact"] == ["MQ=="]


def test_a_coroutine_does_steps_beside_its_loop(hub: LedgerInProcess) -> None:
    """An `async def` handler has its steps done on another thread, and the loop is free meanwhile."""

    async def handler(_task: Any, ctx: Any) -> str:
        values = await asyncio.gather(*(asyncio.to_thread(ctx.step, f"s{n}", lambda n=n: n) for n in range(3)))
        return str(values)

    with WorkerAtHub(hub, handler) as worker:
        worker.ready()
        task = hub.submit()
        assert hub.ended(task).state == "completed"

    assert stored(hub, task) == {"s0": b"0", "s1": b"1", "s2": b"2"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("a", {1, 2}), ("a", float("nan")), ("a", "x" * MAX_STEP), ("", 1), ("x" * 200, 1), (3, 1)],
    ids=["set", "nan", "large", "no name", "long name", "number"],
)
def test_what_cannot_be_stored_raises_in_the_handler(hub: LedgerInProcess, name: Any, value: Any) -> None:
    """[J20] The error has its type, comes to the handler, which may go on, and stores nothing."""

    def handler(_task: Any, ctx: Any) -> str:
        with pytest.raises(StepError):
            ctx.step(name, lambda: value)
        return str(ctx.step("b", lambda: "went on"))

    with WorkerAtHub(hub, handler) as worker:
        worker.ready()
        task = hub.submit()
        assert hub.ended(task).state == "completed"

    assert stored(hub, task) == {"b": b'"went on"'}


# ------------------------------------------------------------------------------------------------ users' own tests
def test_a_handler_with_steps_is_tested_by_hand() -> None:
    """`run_handler` tells what each step stored, and goes on from there in the next call. [R-65]"""
    handler = Stepping()
    handler.go.set()
    first = run_handler(handler)
    second = run_handler(handler, steps={"one": "known"})

    assert (first.state, first.steps) == ("completed", {"one": {"one": 1}, "two": {"two": 2}})
    assert (second.state, second.steps) == ("completed", {"one": "known", "two": {"two": 3}})
    assert handler.done == ["one", "two", "two"]


def test_a_step_that_cannot_be_stored_fails_the_task() -> None:
    """[J20] A handler that lets the error through fails, and whoever asked reads what is wrong."""
    run = run_handler(lambda _task, ctx: ctx.step("fetch", lambda: b"bytes"))

    assert isinstance(run.error, StepError)
    assert (run.state, run.error_code) == ("failed", "handler_error")
    assert "the step 'fetch' returned what cannot be stored as JSON" in (run.message or "")


def test_steps_are_shown_to_whom_they_belong(tmp_path: Path) -> None:
    """A token is asked for, and a task that is not there has no steps."""
    with running_hub(tmp_path) as hub:
        hub.connect("echo")
        task = hub.submit(hub.consumer()["accessToken"], "echo")
        answers = [
            hub.ask("GET", f"/api/v1/tasks/{which}/steps", bearer=bearer).status
            for which, bearer in ((task, None), ("nothing", hub.consumer()["accessToken"]))
        ]

    assert answers == [401, 404]
