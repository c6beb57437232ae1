"""What callbacks are still told when their user leaves the session: a hub, an agent and a client."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub

from blocks_worker import TaskClient, start_agent_instance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_hub import Caller

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession
    from blocks_worker.stream import StreamRef

#: Tasks of one test: the end of the session and its callbacks have to meet at many moments.
ROUNDS = 15
WORDS = [str(number) for number in range(10)]
#: Held back while a callback is registered that has to be there in time.
LISTENS = threading.Event()
#: Less than the seconds for which the end of a session waits for callbacks.
SOON = 4.5


def handler(task: Any, ctx: Any) -> str:
    """Say a little of everything, and stream what was asked for."""
    ctx.report_status("at work")
    if task.text() == "stay":
        ctx.wait(20)
    if ctx.has_stream:
        LISTENS.wait(20)
        with ctx.create_stream(format="events") as stream:
            for word in WORDS:
                stream.write(word)
    return str(task.text())


@dataclass
class Place:
    """A running hub with an agent, and a client of it."""

    hub: Caller
    client: TaskClient

    def another(self) -> TaskClient:
        """Return another client."""
        return TaskClient.create("free", cdm_url=f"{self.hub.address.url}/api/v1/cdm", api_key=self.hub.key)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run all of it for the tests of this file."""
    folder = tmp_path_factory.mktemp("state")
    with running_hub(folder) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOCKS_STATE_DIR", str(folder))
        with (
            start_agent_instance({"agent_name": "says", "handler": handler, "concurrency": 8}) as agent,
            TaskClient.create("free") as client,
        ):
            agent.wait_ready(30)
            yield Place(hub, client)


@pytest.fixture
def client(place: Place) -> TaskClient:
    """Return the client that the tests share."""
    return place.client


def test_callbacks_hear_the_end_of_a_with_block(client: TaskClient) -> None:
    """Who leaves right after `wait_for_terminal` has been told every artifact and the end, each once. [R-51]"""
    told: list[str] = []
    for _ in range(ROUNDS):
        with client.send_message("says", "x") as session:
            session.on_terminal(lambda event: told.append(event.type))
            session.on_artifact(lambda event: told.append(event.type))
            session.wait_for_terminal(20)

    assert told == ["artifact", "terminal"] * ROUNDS


def test_a_stream_is_read_to_its_end_by_its_callback(client: TaskClient) -> None:
    """What `on_stream` reads is read to the end before the session is gone, however fast its task was. [A-10]"""
    for _ in range(ROUNDS):
        read: list[Any] = []

        def reads(ref: StreamRef, read: list[Any] = read) -> None:
            read.extend(ref.open().events())

        LISTENS.clear()
        with client.send_message("says", "x", stream=True) as session:
            session.on_stream(reads)
            LISTENS.set()
            session.wait_for_terminal(20)

        assert read == WORDS


def test_the_end_of_a_client_tells_too(place: Place) -> None:
    """Sessions that nobody closed tell what is left when their client ends in order. [R-51]"""
    told: list[str] = []
    for _ in range(5):
        with place.another() as other:
            sessions = other.send_many([{"agent_name": "says", "request_parts": "x"}] * 3)
            for session in sessions:
                session.on_terminal(lambda event: told.append(event.type))
            for session in sessions:
                session.wait_for_terminal(20)

    assert told == ["terminal"] * 15


def test_a_callback_may_close(client: TaskClient) -> None:
    """A callback that closes its session, on whichever thread, waits for nobody, and hears no more. [R-28] [C16]"""
    closed: list[str] = []

    def closes(session: TaskSession) -> None:
        begun = time.monotonic()
        session.close()
        closed.append("at once" if time.monotonic() - begun < SOON else "late")

    LISTENS.set()
    first = client.send_message("says", "x")
    first.on_terminal(lambda _event: closes(first))
    second = client.send_message("says", "x", stream=True)
    second.on_stream(lambda _ref: closes(second))
    wait_until(lambda: len(closed) == 2, 20, "both are closed")

    assert closed == ["at once"] * 2


def test_nobody_waits_long_for_a_callback(client: TaskClient) -> None:
    """An exception that leaves the block, and a task that goes on, wait for no callback; else it is seconds. [R-28]"""
    go, entered = threading.Event(), threading.Event()
    left: list[float] = []

    def hangs(_event: TaskEvent) -> None:
        entered.set()
        go.wait(30)

    def fails() -> None:
        with client.send_message("says", "x") as session:
            session.on_event(hangs)
            session.wait_for_terminal(20)
            assert entered.wait(20)
            left.append(time.monotonic())
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    left.append(time.monotonic())
    entered.clear()
    with client.send_message("says", "stay") as stays:
        stays.on_event(hangs)
        assert entered.wait(20)
        left.append(time.monotonic())

    left.append(time.monotonic())
    go.set()
    assert (left[1] - left[0] < SOON, left[3] - left[2] < SOON) == (True, True)
    client.cancel_task(stays.task_id)
