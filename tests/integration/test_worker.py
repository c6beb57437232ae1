"""The worker against the real ledger in this process: the life of request tasks."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support import wait_until
from support_worker import NUMBERS, LedgerInProcess, WorkerAtHub

from blocks_worker.errors import AgentAuthFatalError, BlocksError, InputError, RpcError, TaskFinishedError
from blocks_worker.protocol.control import Drain
from blocks_worker.worker import outbox
from blocks_worker.worker.spool import SpoolPlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blocks_worker.hub.store.ledger import Ledger

#: Nobody is given up, and no lease is lost, because the machine stood still.
PATIENT = msgspec.structs.replace(NUMBERS, lease_ttl=60.0, cancel_grace=30.0)


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a fresh ledger."""
    with LedgerInProcess() as ledger:
        yield ledger


class Gate:
    """A handler that says it started and waits until it is let go, or for its cancel."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.started = threading.Event()
        self.go = threading.Event()
        self.contexts: list[Any] = []
        self.deaf = deaf

    def __call__(self, _task: Any, ctx: Any) -> str:
        """Do it."""
        self.contexts.append(ctx)
        self.started.set()
        while not self.go.wait(0.02):
            if ctx.is_cancelled and not self.deaf:
                return "partial"
        return "done"


def echo(task: Any) -> str:
    """Return the text."""
    return f"Echo {task.text()}"


def swept(hub: LedgerInProcess, task: str) -> str:
    """Sweep, and return the state of a task."""
    hub.sweep()
    return hub.row(task).state


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return what the events are, in short."""
    return [event.get("state") or event["type"] for event in events]


def test_a_task_runs_and_is_reported_in_one_request(hub: LedgerInProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short task is: running, artifact, terminal, and costs one claim and one report."""
    # It is short on a slow machine too: what it says first waits for its end.
    monkeypatch.setattr(outbox, "HOLD", 30.0)
    with WorkerAtHub(hub, echo) as at:
        at.ready()
        before = len([call for call in at.login.calls if call[0] != "heartbeat"])
        task = hub.submit("hello")
        row = hub.ended(task)

        assert row.state == "completed"
        assert kinds(hub.events(task)) == ["running", "artifact", "completed"]
        assert [call[0] for call in at.login.calls if call[0] != "heartbeat"][before:] == ["claims", "reports"]


def test_many_tasks_through_one_slot_are_never_refused(hub: LedgerInProcess) -> None:
    """The slot is free again before the hub can answer an outcome with the next offer. [B20]"""
    with WorkerAtHub(hub, echo) as at:
        worker = at.ready()
        tasks = [hub.submit(str(number)) for number in range(100)]

        assert [hub.ended(task).state for task in tasks] == ["completed"] * 100
        assert {name for name in worker.counters if name.startswith("offers_refused")} == set()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("no such city"), "handler_error", "no such city"),
        (ValueError(), "handler_error", "ValueError"),
        (InputError("part 'a' is missing"), "invalid_input", "part 'a' is missing"),
        (SystemExit(3), "handler_exit", "the handler called sys.exit(3)"),
        (SystemExit(), "handler_exit", "the handler called sys.exit()"),
        (KeyboardInterrupt(), "handler_exit", "the handler raised KeyboardInterrupt"),
        (GeneratorExit(), "handler_exit", "the handler raised GeneratorExit"),
    ],
)
def test_an_exception_fails_the_task_and_spares_the_worker(
    hub: LedgerInProcess, error: BaseException, code: str, text: str
) -> None:
    """Whatever a handler raises becomes its task's error; the next task runs. [C3]"""
    raising = [error]
    told: list[BaseException] = []

    def handler(task: Any) -> str:
        if raising:
            raise raising.pop()
        return "fine"

    with WorkerAtHub(hub, handler, on_error=lambda _task, seen: told.append(seen)) as at:
        at.ready()
        row = hub.ended(hub.submit())

        assert (row.state, row.error_code, row.error) == ("failed", code, text)
        assert hub.ended(hub.submit()).state == "completed"
        assert len(told) == (0 if code == "invalid_input" else 1)


def test_cancel_sets_the_event_and_keeps_what_was_made() -> None:
    """A cancelled handler that returns is reported canceled, with its artifacts and the caller's reason."""
    gate = Gate()
    with LedgerInProcess(numbers=PATIENT) as hub, WorkerAtHub(hub, gate) as at:
        at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        hub.cancel(task, "changed my mind")
        row = hub.ended(task)

        assert (row.state, row.reason) == ("canceled", "changed my mind")
        assert "artifact" in kinds(hub.events(task))


def test_cancel_comes_by_heartbeat_when_the_bus_is_dead(hub: LedgerInProcess) -> None:
    """A cancel needs no bus. [B5] [R-13]"""
    gate = Gate()
    with WorkerAtHub(hub, gate) as at:
        at.ready()
        task = hub.submit()
        # The answer to its first report would tell of the cancel too.
        wait_until(lambda: kinds(hub.events(task)) == ["running"], what="the first report")
        hub.bus.deaf = True
        hub.cancel(task)

        assert hub.ended(task).state == "canceled"


def test_a_deaf_bus_is_rebuilt_and_offers_come_by_heartbeat(hub: LedgerInProcess) -> None:
    """Three nonces that never come rebuild the transport; tasks run meanwhile. [A12] [R-13]"""
    with WorkerAtHub(hub, echo) as at:
        worker = at.ready()
        hub.bus.deaf = True
        task = hub.submit()

        assert hub.ended(task).state == "completed"
        wait_until(lambda: hub.bus.rebuilt, 10, "the rebuild")
        assert worker.counters["transport_rebuilds"] >= 1


def test_a_handler_that_ignores_cancel_is_forced_and_its_slot_replaced(hub: LedgerInProcess) -> None:
    """After its grace the task is over, its thread given up, and the next task runs. [C1]"""
    gate = Gate(deaf=True)
    hung = [gate]
    with WorkerAtHub(hub, lambda task, ctx: hung.pop()(task, ctx) if hung else "next") as at:
        worker = at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        hub.cancel(task)
        row = hub.ended(task)

        assert (row.state, row.reason) == ("canceled", "forced")
        wait_until(lambda: worker.counters["abandoned_threads"] == 1, what="the abandoned thread")
        assert hub.ended(hub.submit()).state == "completed"
        gate.go.set()
        wait_until(lambda: worker.counters["abandoned_threads"] == 0, what="its return")


def test_a_terminate_after_a_cancel_shortens_the_grace() -> None:
    """The worker gives a handler up after the shorter grace, and both sides call the end forced. [C1]"""
    numbers = msgspec.structs.replace(NUMBERS, cancel_grace=60.0, terminate_grace=0.3)
    gate = Gate(deaf=True)
    with LedgerInProcess(numbers=numbers) as hub, WorkerAtHub(hub, gate) as at:
        worker = at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        hub.cancel(task, "mine")
        wait_until(lambda: gate.contexts[0].is_cancelled, what="the cancel")
        hub.cancel(task, terminated=True)

        # Nobody sweeps here: it is the worker who ends it.
        assert (hub.ended(task, 30).state, hub.row(task).reason) == ("canceled", "forced")
        wait_until(lambda: worker.counters.get("runs_forced") == 1, what="the count")
        gate.go.set()
        wait_until(lambda: worker.counters["abandoned_threads"] == 0, what="its return")


def test_a_run_over_its_limit_fails_at_once(hub: LedgerInProcess) -> None:
    """At max_runtime the task is failed with timeout, and its event is set. [C2] [R-56]"""
    gate = Gate()
    with WorkerAtHub(hub, gate, max_runtime=3.0) as at:
        worker = at.ready()
        row = hub.ended(hub.submit())

        assert (row.state, row.error_code, row.reason) == ("failed", "timeout", "max_runtime")
        wait_until(lambda: gate.contexts[0].is_cancelled and gate.contexts[0].is_expired, what="the event")
        wait_until(lambda: worker.counters.get("late_results") == 1, what="the late result")


def test_a_run_that_hangs_in_silence_fails_and_one_that_speaks_does_not(hub: LedgerInProcess) -> None:
    """[C2] Past `progress_timeout` without a word a run is failed with `progress`; a word in time is enough."""

    def handler(task: Any, ctx: Any) -> str:
        if task.text() == "hangs":
            ctx.cancel_event.wait(20)
            return "too late"
        for number in range(12):
            if task.text() == "steps":
                ctx.step(f"{number}", int)
            else:
                ctx.report_status(f"{number}")
            ctx.cancel_event.wait(0.4)
        return "done"

    with WorkerAtHub(hub, handler, slots=3, progress_timeout=30) as at:
        worker = at.ready()
        others = [hub.submit(how, progress_timeout=4.0) for how in ("speaks", "steps")]
        silent = hub.ended(hub.submit("hangs", progress_timeout=2.5))

        assert (silent.state, silent.error_code, silent.reason) == ("failed", "timeout", "progress")
        assert [hub.ended(other).state for other in others] == ["completed"] * 2
        wait_until(lambda: worker.counters.get("late_results") == 1, what="the late result")


@pytest.mark.parametrize("lost", [1, 3])
def test_lost_replies_are_repeated_without_a_second_effect(lost: int) -> None:
    """A claim or report whose answer is lost is repeated with the same ids; the handler starts once. [A2, B10, R-22]"""
    starts: list[str] = []

    def handler(task: Any) -> str:
        starts.append(task.task_id)
        return "x"

    with LedgerInProcess(numbers=PATIENT) as hub, WorkerAtHub(hub, handler, heartbeat_interval=5.0) as at:
        at.ready()
        at.login.lose_replies = lost
        task = hub.submit()

        assert hub.ended(task).state == "completed"
        wait_until(lambda: not at.worker.active_tasks, what="the answer")
        assert starts == [task]
        assert kinds(hub.events(task)) == ["running", "artifact", "completed"]


def test_an_outcome_waits_for_a_hub_that_is_away() -> None:
    """A result made while the hub is unreachable is reported when it is back, and stays in the held list. [R-11]"""
    gate = Gate()
    with LedgerInProcess(numbers=PATIENT) as hub, WorkerAtHub(hub, gate) as at:
        at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        at.login.cut.set()
        gate.go.set()
        wait_until(lambda: at.worker.counters.get("reports_repeated", 0) >= 2, what="failed reports")
        at.login.cut.clear()

        assert hub.ended(task).state == "completed"
        assert (task, 1) in [(held.task_id, held.epoch) for held in at.login.beats[-1].held] or not (
            at.login.beats[-1].held
        )


@pytest.mark.parametrize("text", ["\x01" * 4096, "\U0001f600" * 4096])
def test_many_long_errors_fit_their_requests(text: str) -> None:
    """What gathered while the hub was away never makes a request that the hub refuses."""
    go = threading.Event()
    begun: list[str] = []

    def handler(task: Any) -> None:
        begun.append(task.task_id)
        go.wait(60)
        raise RuntimeError(text)

    with LedgerInProcess(numbers=PATIENT) as hub, WorkerAtHub(hub, handler, slots=70) as at:
        at.ready()
        tasks = [hub.submit() for _ in range(70)]
        wait_until(lambda: len(begun) == 70, what="the runs")
        at.login.cut.set()
        go.set()
        wait_until(lambda: at.worker.counters.get("tasks_failed") == 70, what="the failures")
        at.login.cut.clear()

        assert {hub.ended(task, 30).error_code for task in tasks} == {"handler_error"}


def test_a_report_that_the_hub_refuses_whole_harms_no_other(hub: LedgerInProcess) -> None:
    """A request that is refused is cut until the culprit stands alone: its task fails, the others do not. [R-11]"""

    def handler(task: Any) -> str:
        return "x" * 8000 if task.text() == "large" else "small"

    with WorkerAtHub(hub, handler, slots=8) as at:
        at.ready()
        at.login.max_body = 4000
        small = [hub.submit(str(number)) for number in range(5)]
        large = hub.submit("large")

        assert hub.ended(large).error_code == "bad_result"
        assert {hub.ended(task).state for task in small} == {"completed"}
        assert at.worker.counters["reports_failed"] == 1


def test_a_stop_without_the_hub_leaves_time_for_all_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The last reports get a part of the time only; what was not heard is counted, and on disk. [D1]"""
    place = SpoolPlace.of(tmp_path / "spool", hub="h", api_key="bk", always=False)
    gate = Gate()
    with LedgerInProcess(numbers=PATIENT) as hub, WorkerAtHub(hub, gate, spool=place) as at:
        at.ready()
        hub.submit()
        assert gate.started.wait(30)
        at.login.cut.set()
        gate.go.set()
        at.worker.stop(6)

        assert "still_running" not in caplog.text
        counters = at.worker.counters
        assert (counters["outcomes_unheard"], counters["outcomes_spooled"]) == (1, 1)


def test_drain_lets_runs_finish(hub: LedgerInProcess) -> None:
    """Stop takes nothing new, tells the hub at once, and waits for what runs. [D-6]"""
    gate = Gate()
    with WorkerAtHub(hub, gate) as at:
        worker = at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        stopper = threading.Thread(target=worker.stop)
        stopper.start()
        wait_until(lambda: at.login.beats[-1].draining, what="the draining beat")
        later = hub.submit()
        gate.go.set()
        stopper.join(10)

        assert hub.row(task).state == "completed"
        assert hub.row(later).state == "pending"
        assert (worker.state, worker.wait(0)) == ("stopped", True)
        assert at.login.beats[-1].stopped


def test_drain_gives_back_what_does_not_finish(hub: LedgerInProcess) -> None:
    """After the deadline a run is asked to stop and its task goes back, with no attempt counted. [D4] [R-31]"""
    gate = Gate()
    with WorkerAtHub(hub, gate) as at:
        worker = at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        worker.stop(0)
        row = hub.row(task)

        assert (row.state, row.attempt) == ("pending", 0)
        assert gate.contexts[0].is_cancelled
        with WorkerAtHub(hub, echo, name="two"):
            assert hub.ended(task).state == "completed"


def test_hurry_cuts_a_drain_short(hub: LedgerInProcess) -> None:
    """The second signal cancels all at once. [D5]"""
    gate = Gate()
    with WorkerAtHub(hub, gate, drain_timeout=600.0) as at:
        worker = at.ready()
        hub.submit()
        assert gate.started.wait(30)
        stopper = threading.Thread(target=worker.stop)
        stopper.start()
        wait_until(lambda: worker.state == "draining", what="the drain")
        worker.hurry()
        stopper.join(10)

        assert worker.state == "stopped"


def test_a_second_stop_waits_for_the_first(hub: LedgerInProcess) -> None:
    """Both calls return after the end."""
    with WorkerAtHub(hub, echo) as at:
        worker = at.ready()
        others = [threading.Thread(target=worker.stop) for _ in range(3)]
        for other in others:
            other.start()
        for other in others:
            other.join(10)

        assert worker.wait(0)


def test_a_newer_process_takes_over(hub: LedgerInProcess) -> None:
    """The older one of two under one name fails with Superseded, and its run's event is set. [B13]"""
    gate = Gate()
    fatal: list[BaseException] = []
    with WorkerAtHub(hub, gate, options={"on_fatal": fatal.append}) as older:
        older.ready()
        hub.submit()
        assert gate.started.wait(30)
        with WorkerAtHub(hub, echo) as newer:
            newer.ready()
            wait_until(lambda: older.worker.state == "failed", 10, "the older one's end")

            with pytest.raises(AgentAuthFatalError) as raised:
                older.worker.wait(10)
            assert raised.value.code == "Superseded"
            wait_until(lambda: fatal == [raised.value], what="the word of it")
            wait_until(lambda: gate.contexts[0].is_cancelled, what="the event")


def test_a_forgotten_incarnation_comes_back_as_a_new_one() -> None:
    """When the hub has given the instance up, it drops its runs and registers anew. [B12]"""
    gate = Gate()
    gates: list[Any] = [gate]
    short = msgspec.structs.replace(NUMBERS, lease_ttl=4.0, lease_margin=0.5, lease_grace=0.1)
    with (
        LedgerInProcess(numbers=short) as hub,
        WorkerAtHub(hub, lambda task, ctx: gates.pop()(task, ctx) if gates else "again", slots=2) as at,
    ):
        at.ready()
        task = hub.submit()
        assert gate.started.wait(30)
        before = at.login.incarnation
        at.login.cut.set()
        wait_until(lambda: swept(hub, task) == "pending", 20, "the loss of the lease")
        at.login.cut.clear()

        assert hub.ended(task, 20).state == "completed"
        assert gate.contexts[0].is_cancelled
        assert at.login.incarnation != before
        assert at.login.connects == 2


@pytest.mark.parametrize("status", [None, 404, 408, 429, 500, 503])
def test_connect_is_tried_until_it_succeeds(hub: LedgerInProcess, status: int | None) -> None:
    """A hub that is away at the start, or cannot just now, delays the worker, nothing else. [R-23]"""
    at = WorkerAtHub(hub, echo)
    if status is None:
        at.login.cut.set()
    else:
        at.login.refuse = RpcError("not now", code="Some", status=status)
    with at:
        with pytest.raises(TimeoutError, match="not ready"):
            at.worker.wait_ready(0.2)
        assert at.worker.state == "starting"
        at.login.cut.clear()
        at.login.refuse = None
        at.ready()

        assert hub.ended(hub.submit()).state == "completed"


@pytest.mark.parametrize(
    "refusal",
    [
        AgentAuthFatalError("this key is refused", code="API_KEY_INVALID"),
        RpcError("the name is somebody else's", code="AgentNameReserved", status=409),
        RpcError("this is no card", code="InvalidInput", status=400),
    ],
)
def test_a_refusal_for_good_is_raised_by_the_waits(hub: LedgerInProcess, refusal: BlocksError) -> None:
    """What no repeating changes ends the worker with the hub's word for it, not the process. [R-23]"""
    at = WorkerAtHub(hub, echo)
    at.login.refuse = refusal
    with at:
        for wait in (at.worker.wait_ready, at.worker.wait):
            with pytest.raises(AgentAuthFatalError) as caught:
                wait(10)
            assert (caught.value.code, at.worker.error) == (refusal.code, caught.value)  # type: ignore[attr-defined]

        assert at.worker.state == "failed"


def test_an_async_handler_runs_and_is_cancelled(hub: LedgerInProcess) -> None:
    """Coroutines run on one loop; a cancel cancels them, SystemExit in one harms no other. [R-56]"""
    started = threading.Event()

    async def handler(task: Any, ctx: Any) -> str:
        if task.text() == "hang":
            started.set()
            await asyncio.sleep(3600)
        if task.text() == "exit":
            raise SystemExit
        return f"async {task.text()}"

    with WorkerAtHub(hub, handler, slots=3) as at:
        at.ready()
        hanging = hub.submit("hang")
        assert started.wait(30)

        assert hub.ended(hub.submit("exit")).error_code == "handler_exit"
        assert hub.ended(hub.submit("a")).state == "completed"
        hub.cancel(hanging)
        assert hub.ended(hanging).state == "canceled"


def test_status_is_throttled_and_the_last_text_is_sent(hub: LedgerInProcess) -> None:
    """Of a hundred texts in a moment the first and the last travel, and hardly another, before the terminal. [R-15]"""

    def handler(task: Any, ctx: Any) -> None:
        for number in range(100):
            ctx.report_status(f"step {number}")

    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit()
        hub.ended(task)

        said = [event["message"] for event in hub.events(task) if "message" in event]
        # Each second that the machine stood still in between lets one more through.
        assert (said[0], said[-1], len(said) < 10) == ("step 0", "step 99", True)


def test_progress_is_told_before_what_followed_it(hub: LedgerInProcess) -> None:
    """A progress that waits for its second goes ahead of the artifact that was published after it. [R-15]"""

    def handler(_task: Any, ctx: Any) -> None:
        for number in range(1, 5):
            ctx.report_progress(number / 4, f"part {number}")
            ctx.publish_artifact(f"a{number}", output_id=f"a{number}")

    with WorkerAtHub(hub, handler) as at:
        at.ready()
        task = hub.submit()
        hub.ended(task)

        told = [event.get("message") or event.get("outputId") for event in hub.events(task)]
        assert [one for one in told if one] == ["part 1", "a1", "part 2", "a2", "part 3", "a3", "part 4", "a4"]


def test_the_context_is_closed_after_the_end(hub: LedgerInProcess) -> None:
    """Sending through a context of an ended run raises. [C19]"""
    kept: list[Any] = []
    with WorkerAtHub(hub, lambda _task, ctx: kept.append(ctx)) as at:
        at.ready()
        hub.ended(hub.submit())

        for send in (kept[0].report_status, kept[0].report_progress, kept[0].publish_artifact):
            with pytest.raises(TaskFinishedError):
                send(1 if send == kept[0].report_progress else "x")


def test_an_artifact_that_cannot_be_stored_fails_the_task(hub: LedgerInProcess) -> None:
    """Sizes up to the limit travel, one byte more is stored, or artifact_failed where it cannot be. [R-6]"""
    with WorkerAtHub(hub, lambda task: "x" * int(task.text())) as at:
        at.ready()

        assert hub.ended(hub.submit("16384")).state == "completed"
        assert hub.ended(hub.submit("16385")).error_code == "artifact_failed"


def test_strict_results_fail_on_anything_unknown(hub: LedgerInProcess) -> None:
    """An unknown result is a warning, or a failure where asked for. [C4]"""
    with WorkerAtHub(hub, lambda _task: object()) as at:
        at.ready()
        task = hub.submit()

        assert hub.ended(task).state == "completed"
        assert [event["status"] for event in hub.events(task) if event["type"] == "system"] == ["warning"]
    with WorkerAtHub(hub, lambda _task: object(), name="two", strict_results=True) as at:
        at.ready()
        assert hub.ended(hub.submit()).error_code == "bad_result"


def test_drain_under_load_loses_nothing(hub: LedgerInProcess) -> None:
    """While tasks flow, workers come and go; every task completes, none is lost or refused for good. [B19, D4]"""
    tasks: list[str] = []
    with WorkerAtHub(hub, echo, name="stays", slots=2) as stays:
        stays.ready()
        for turn in range(4):
            with WorkerAtHub(hub, echo, name=f"goes-{turn}", slots=2) as goes:
                goes.ready()
                tasks += [hub.submit(str(number)) for number in range(50)]
                goes.worker.stop()

        assert {hub.ended(task, 20).state for task in tasks} == {"completed"}
        assert {hub.row(task).attempt for task in tasks} == {1}


def test_a_stop_ends_the_wait_for_readiness(hub: LedgerInProcess) -> None:
    """Who waits for a worker that is stopped before it got in is told. [D3]"""
    at = WorkerAtHub(hub, echo)
    at.login.cut.set()
    with at:
        threading.Timer(0.2, at.worker.stop).start()

        with pytest.raises(RuntimeError, match="stopped"):
            at.worker.wait_ready(10)


def test_the_hub_may_ask_for_a_drain(hub: LedgerInProcess) -> None:
    """An order to drain on the control channel stops the worker as `stop` does."""
    with WorkerAtHub(hub, echo) as at:
        worker = at.ready()

        def order(ledger: Ledger) -> None:
            row = ledger.instance(at.login.incarnation)
            assert row is not None
            hub.tasks.bell.ring(ledger, row, Drain())

        hub.write(order)

        assert worker.wait(10)
        assert worker.state == "stopped"


def test_the_worker_spools_while_the_hub_is_away_and_the_next_one_reports(tmp_path: Path) -> None:
    """A result of a worker that ended without its hub is recorded by its successor: one run. [R11] [D1] [B10] [R-12]"""
    place = SpoolPlace.of(tmp_path / "spool", hub="sub-c", api_key="bk", always=False)
    go = threading.Event()
    runs: list[str] = []

    def work(task: Any, ctx: Any) -> str:
        ctx.report_status("at it")
        runs.append(task.task_id)
        go.wait(60)
        return "done"

    with LedgerInProcess(numbers=PATIENT) as hub:
        with WorkerAtHub(hub, work, spool=place) as first:
            first.ready()
            task_id = hub.submit()
            wait_until(lambda: runs, what="the run")
            first.login.cut.set()
            go.set()
            wait_until(lambda: any(path.stat().st_size for path in place.files()), what="the record")
        with WorkerAtHub(hub, work, spool=place) as second:
            second.ready()
            row = hub.ended(task_id)

            calls = [what for what, _ in second.login.calls]
            assert calls.index("late") < calls.index("connect")

        assert (row.state, row.attempt, runs) == ("completed", 1, [task_id])
        assert [event["type"] for event in hub.events(task_id)][-2:] == ["artifact", "terminal"]
        assert place.files() == []


def test_a_worker_outlives_an_async_handler_that_blocks() -> None:
    """The task that blocks fails at its limit; its slot comes back after the grace, and the next tasks run."""
    let_go = threading.Event()

    async def handler(task: Any) -> str:
        if task.text() == "block":
            let_go.wait(60)
        return "done"

    numbers = NUMBERS.__class__(heartbeat_interval=0.3, lease_ttl=6.0, cancel_grace=0.3)
    with LedgerInProcess(numbers=numbers) as hub, WorkerAtHub(hub, handler, slots=2) as at:
        worker = at.ready()
        stuck = hub.submit("block", max_runtime=2.5)
        hub.running(stuck)
        beside = hub.submit("beside")

        assert hub.ended(stuck).error_code == "timeout"
        assert hub.ended(beside).state == "completed"
        wait_until(lambda: worker.counters.get("coroutines_abandoned") == 1, what="the end of its grace")
        wait_until(lambda: not worker.active_tasks and worker.state == "ready", 30, "the slot")
        let_go.set()


def test_the_way_of_a_task_is_logged_at_debug(hub: LedgerInProcess, caplog: pytest.LogCaptureFixture) -> None:
    """Offered, claimed, called, returned, reported, in this order, and nothing of what it carries."""
    with caplog.at_level(logging.DEBUG, "blocks_worker.worker"), WorkerAtHub(hub, echo) as at:
        at.ready()
        hub.ended(hub.submit("a secret"))
        wait_until(lambda: "reported" in caplog.messages, what="the report's answer")

    way = {"offered", "claimed", "handler_called", "handler_returned", "reported"}
    assert [said for said in caplog.messages if said in way] == [
        "offered", "claimed", "handler_called", "handler_returned", "reported",
    ]  # fmt: skip
    assert not [record for record in caplog.records if "a secret" in str(vars(record))]
