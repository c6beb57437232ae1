"""Two threads that meet at one moment: cancel and end, wait and end, callback and close, call and callback.

Each pair starts at a barrier, a random moment apart, while threads change as often as the interpreter can. The
traceback of every thread is told when one of them hangs.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import BareRun, running_hub

from blocks_worker import TaskClient
from blocks_worker.client.callbacks import CallbackPool
from blocks_worker.client.events import TaskEvent
from blocks_worker.client.session import TaskSession
from blocks_worker.concurrency import Clock
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Act = Callable[[], Any]

#: Seconds that two threads which meet are apart at most.
APART = 0.001
#: Seconds after which everybody's traceback is told.
HANGS = 100


@pytest.fixture(autouse=True)
def changing_threads() -> Iterator[None]:
    """Have threads change as often as may be."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    faulthandler.dump_traceback_later(HANGS, exit=False)
    yield
    faulthandler.cancel_dump_traceback_later()
    sys.setswitchinterval(usual)


class Pair:
    """Two threads that do something at the same moment, as often as wanted."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="pair")
        self._pause = threading.Event()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def meet(self, one: Act, other: Act) -> tuple[Any, Any]:
        """Do both, a random moment apart, and return what they returned."""
        barrier = threading.Barrier(2)
        apart = self.chance.uniform(-APART, APART) * self.chance.choice([0, 0.1, 1])
        done = [
            self._threads.submit(self._at, barrier, pause, act)
            for act, pause in ((one, max(0.0, apart)), (other, max(0.0, -apart)))
        ]
        return done[0].result(30), done[1].result(30)

    def _at(self, barrier: threading.Barrier, pause: float, act: Act) -> Any:
        barrier.wait(10)
        if pause:
            self._pause.wait(pause)
        return act()


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give a pair whose moments are those of its seed, which a failure tells."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where a test fails
    made = Pair(seed)
    yield made
    made.close()


def rounds(request: pytest.FixtureRequest, few: int, many: int) -> int:
    """Return how often a pair meets: often where there is time."""
    return many if request.config.getoption("--long") else few


# -------------------------------------------------------------------------------------------- cancel and end
@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", ["completed", "failed"])
def test_a_cancel_meets_the_end(request: pytest.FixtureRequest, pair: Pair, end: str) -> None:
    """Whichever comes first counts: row, event and both answers say the same, and one end is on record. [B6]"""
    told = {200: 0, 202: 0}
    with running_hub(state_dir()) as hub:
        token = str(hub.connect(concurrency=1, billingMode="free", listing="public")["accessToken"])
        consumer = str(hub.consumer()["accessToken"])
        hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=token)
        for _ in range(rounds(request, 150, 5_000)):
            task = hub.submit(consumer, requestParts=[])
            run = BareRun(hub, token, task)
            cancel, _ = pair.meet(
                lambda task=task: hub.ask("POST", f"/api/v1/tasks/{task}/cancel", {}, bearer=consumer),  # type: ignore[misc]
                lambda run=run: run.end(end),  # type: ignore[misc]
            )
            row = hub.ask("GET", f"/api/v1/tasks/{task}", bearer=consumer).json
            events = hub.ask("GET", f"/api/v1/tasks/{task}/events", bearer=consumer).json["events"]
            told[cancel.status] += 1

            was_first = cancel.status == 202
            # A result that was made stands; a failure under a cancel is the cancel.
            expected = "canceled" if was_first and end == "failed" else end
            assert row["state"] == expected
            assert [event["state"] for event in events if event["type"] == "terminal"] == [expected]
            assert [event["type"] for event in events].count("cancel_requested") == was_first
            assert cancel.json["state"] == ("running" if was_first else expected), cancel

    assert min(told.values()) > 0, f"they never met: {told}"


# -------------------------------------------------------------------------------------------- wait and end
class Owner:
    """What a session needs of its client: nobody is asked here."""

    def __init__(self) -> None:
        self.pool = CallbackPool()
        self.clock = Clock()

    def forget(self, session: object) -> None:
        """There is no route to take back."""


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Give an owner whose callback threads end with the test."""
    made = Owner()
    yield made
    made.pool.stop()
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("client-callbacks")])


def event(n: int, kind: str = "progress", **fields: Any) -> TaskEvent:
    """Return an event of the task with this number."""
    return TaskEvent.of({"type": kind, "taskId": "t", "epoch": 1, "n": n, "seq": n, **fields})


END = event(1, "terminal", state="completed", lastN=0)


def session_of(owner: Owner) -> TaskSession:
    """Return a session that hears only what it is fed."""
    return TaskSession(owner, "t", poll=30.0)  # type: ignore[arg-type]  # as much of a client as is asked


def test_a_wait_meets_the_end(request: pytest.FixtureRequest, pair: Pair, owner: Owner) -> None:
    """Nobody who begins to wait in the moment of the end misses it: each is woken at once. [B18]"""
    late: list[float] = []
    for _ in range(rounds(request, 1_500, 100_000)):
        session = session_of(owner)
        ended: list[float] = []

        def end(session: TaskSession = session, ended: list[float] = ended) -> None:
            ended.append(time.monotonic())
            session.feed([END], ended[0])

        def wait(session: TaskSession = session) -> tuple[str, float]:
            return str(session.wait_for_terminal(20).state), time.monotonic()

        (state, woken), _ = pair.meet(wait, end)
        assert state == "completed"
        late.append(woken - ended[0])

    assert max(late) < 10, "somebody slept until his time was over"
    # A machine that is busy pauses some of them.
    assert sorted(late)[len(late) // 2] < 0.05
    assert sorted(late)[len(late) * 99 // 100] < 1


# -------------------------------------------------------------------------------------------- callback and close
@pytest.mark.timeout(600)
def test_a_close_meets_callbacks(request: pytest.FixtureRequest, pair: Pair, owner: Owner) -> None:
    """Once `close` has returned no callback begins, whichever was about to; a second close does nothing. [C17]"""
    met = {"before": 0, "after": 0}
    for _ in range(rounds(request, 1_500, 10_000)):
        session = session_of(owner)
        closed, begun, too_late = [False], [0], [0]

        def hears(
            _event: TaskEvent,
            closed: list[bool] = closed,
            begun: list[int] = begun,
            too_late: list[int] = too_late,
        ) -> None:
            too_late[0] += closed[0]
            begun[0] += 1

        def close(session: TaskSession = session, closed: list[bool] = closed) -> None:
            session.close()
            closed[0] = True

        session.on_progress(hears)
        pair.meet(close, lambda session=session: session.feed([event(1), event(2), event(3)], 0.0))  # type: ignore[misc]
        session.close()
        session.feed([event(4)], 0.0)
        met["before" if begun[0] else "after"] += 1

        assert too_late == [0]
        assert begun[0] <= 3

    assert min(met.values()) > 0, f"they never met: {met}"


def test_a_close_waits_for_no_callback_that_stands_still(owner: Owner) -> None:
    """A callback that holds on does not hold up who closes its session; it hears nothing more. [C17]"""
    stands, go, heard = threading.Event(), threading.Event(), list[int | None]()

    def hears(one: TaskEvent) -> None:
        heard.append(one.n)
        stands.set()
        assert go.wait(20)

    session = session_of(owner)
    session.on_progress(hears)
    session.feed([event(1), event(2)], 0.0)
    assert stands.wait(30)
    begun = time.monotonic()
    session.close()
    took = time.monotonic() - begun
    go.set()

    wait_until(lambda: session.is_closed)
    assert took < 10
    assert heard == [1]


# -------------------------------------------------------------------------------------------- call and callback
CALLS: dict[str, Callable[[TaskSession, TaskClient], object]] = {
    "cancel": lambda session, _client: session.cancel("from inside"),
    "terminate": lambda session, _client: session.terminate("from inside"),
    "wait": lambda session, _client: session.wait_for_terminal(30),
    "result": lambda session, _client: session.result(30),
    "iterate": lambda session, _client: list(session),
    "wait for a stream": lambda session, _client: session.wait_for_stream(timeout=30),
    "look": lambda session, _client: (session.list_events(), session.list_artifacts(), session.state),
    "register": lambda session, _client: session.on_event(lambda _event: None),
    "close": lambda session, _client: session.close(),
    "send": lambda _session, client: client.send_message("echo", "another").close(),
    "destroy": lambda _session, client: client.destroy(),
}
KINDS = ("progress", "artifact", "terminal", "cancel_requested", "system", "event", "stream", "error")


@pytest.mark.parametrize("call", CALLS)
def test_each_call_from_each_callback(call: str) -> None:
    """It returns, or says at once that it cannot be done here; nobody hangs, and the client still ends. [C16]"""
    done: list[str] = []
    faults: list[BaseException] = []

    def inside(kind: str, session: TaskSession, client: TaskClient, *_told: object) -> None:
        begun = time.monotonic()
        try:
            CALLS[call](session, client)
        except RuntimeError:
            pass
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            faults.append(error)
        finally:
            if time.monotonic() - begun < 20:
                done.append(kind)

    with running_hub(state_dir()) as hub:
        token = str(hub.connect(concurrency=64, billingMode="free", listing="public")["accessToken"])
        hub.ask("POST", "/api/v1/heartbeats", {"free": 64}, bearer=token)
        for kind in KINDS:
            with TaskClient.create("free") as client:
                session = client.send_message("echo", "x")
                task = session.task_id

                if kind == "error":
                    session.on_progress(lambda _event: 1 / 0)
                getattr(session, f"on_{kind}")(partial(inside, kind, session, client))
                run = BareRun(hub, token, task)
                run.say(*SAID)
                if kind in {"cancel_requested", "terminal"}:
                    consumer = str(hub.consumer()["accessToken"])
                    hub.ask("POST", f"/api/v1/tasks/{task}/cancel", {}, bearer=consumer)
                    run.end("canceled")
                elif kind == "stream":  # it has a thread of its own, on which it may wait for the end
                    run.end()
                wait_until(lambda kind=kind: kind in done, 40, f"{call} in {kind}")  # type: ignore[misc]

    assert faults == []
    assert set(done) == set(KINDS)


SAID = [
    {"type": "progress", "progress": 0, "state": "running"},
    {"type": "system", "status": "warning", "message": "half of it"},
    {"type": "artifact", "artifactRef": {"kind": "inline", "mimeType": "text/plain", "size": 1, "data": "eA=="}},
    {
        "type": "progress",
        "streamEvent": "stream_started",
        "streams": {"s1": {"channel": "stream.s1", "direction": "outbound", "format": "events"}},
    },
]
