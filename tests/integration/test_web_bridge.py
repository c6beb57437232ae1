"""The example `web_bridge` as a module: browsers that come, read, leave and come back, over real connections."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import uvicorn
from support import wait_until

from blocks_worker.testing import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker import StartTaskMessage, TaskContext

FOLDER = Path(__file__).parents[2] / "examples/web_bridge"
#: How the tests of this file let the tasks end that they sent.
GATES: dict[str, threading.Event] = {}


def steps(task: StartTaskMessage, ctx: TaskContext) -> str:
    """Say how far it is; end when the test, or a cancel, has it end."""
    ctx.report_progress(0.5, "half of it")
    gate = GATES[task.text()]
    while not gate.wait(0.05) and not ctx.is_cancelled:
        pass
    return "done"


class Place(NamedTuple):
    """A bridge, which is served on a port."""

    bridge: Any
    port: int

    def get(self, path: str) -> http.client.HTTPResponse:
        """Return the answer to a GET on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        # So the answer owns the connection, and closing it hangs up.
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse()

    def sent(self, gate: str) -> str:
        """Send a task that waits for a gate; return its id."""
        GATES[gate] = threading.Event()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with closing(connection):
            connection.request("POST", "/tasks", gate)
            answer = connection.getresponse()
            assert answer.status == 201
            return answer.read().decode()

    def follow(self, task_id: str) -> http.client.HTTPResponse:
        """Open the events of a task."""
        answer = self.get(f"/tasks/{task_id}/events")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        return answer


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """Run an agent with room for several tasks."""
    with LocalStack({"steps": {"handler": steps, "concurrency": 8}}) as stack:
        yield stack


@pytest.fixture
def place(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Serve a bridge for four browsers, whose comments come so seldom that nothing here waits for one."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from bridge import Bridge  # type: ignore[import-not-found]  # a program that people copy

    bridge = Bridge(stack.client, keep_alive=60, most=4)
    server = uvicorn.Server(uvicorn.Config(bridge.app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="bridge")
        thread.start()
        yield Place(bridge, listener.getsockname()[1])
        bridge.close()
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
    bridge.threads.shutdown()
    del sys.modules["bridge"]


def blocks(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str | None, Any]]:
    """Yield type, number and data of each block until the stream ends; a comment is of the type ''."""
    fields: dict[str, str] = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
            continue
        yield fields.get("event", ""), fields.get("id"), json.loads(fields.get("data", "null"))
        fields = {}


def until(kind: str, answer: http.client.HTTPResponse) -> list[tuple[str, str | None, Any]]:
    """Read up to a block of this type."""
    read = []
    for block in blocks(answer):
        read.append(block)
        if block[0] == kind:
            return read
    raise AssertionError(f"the stream ended without {kind}: {read}")


def readers() -> list[threading.Thread]:
    """Return the threads of bridges that live."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_a_browser_reads_to_the_end(place: Place) -> None:
    """The end is the last block, the state that says so right before it, and the stream ends then. [R-56]"""
    with place.get("/") as page:
        assert "EventSource" in page.read().decode()
    task = place.sent("end")
    with place.follow(task) as answer:
        GATES["end"].set()
        read = list(blocks(answer))

    kinds = [kind for kind, _, _ in read]
    assert kinds[0] == "state"
    assert kinds[-3:] == ["artifact", "state", "terminal"]
    assert [data["state"] for kind, _, data in read if kind in {"state", "terminal"}][-2:] == ["completed"] * 2
    with place.follow(task) as again:
        assert [block for block in blocks(again) if block[1]] == [block for block in read if block[1]]


def test_a_browser_that_comes_back_is_told_all(place: Place) -> None:
    """What was told before the line was cut has the same numbers afterwards: none twice, none missing."""
    task = place.sent("back")
    with place.follow(task) as answer:
        before = [number for _, number, _ in until("progress", answer) if number]
    GATES["back"].set()
    with place.follow(task) as answer:
        after = [number for _, number, _ in blocks(answer) if number]

    assert before
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) > len(before)


def test_a_browser_that_leaves_takes_session_and_thread_along(place: Place) -> None:
    """Both are free at once, not at the next comment, however often it comes and goes; one too many is refused."""
    task = place.sent("leave")
    seen = []
    for _ in range(3):
        answers = [place.follow(task) for _ in range(4)]
        for answer in answers:
            until("progress", answer)
        with place.get(f"/tasks/{task}/events") as refused:
            assert refused.status == 503
        seen += list(place.bridge.open)
        for answer in answers:
            answer.close()
        wait_until(lambda: not place.bridge.open, 10, "all sessions left")
        assert len(readers()) <= 4
    place.bridge.threads.shutdown(wait=False)

    wait_until(lambda: not readers(), 10, "no thread waits any more")
    assert len(seen) == 12
    for session in seen:
        with pytest.raises(RuntimeError, match="was closed"):
            session.wait_for_terminal(0)
    GATES["leave"].set()


def test_browsers_that_come_at_once_are_counted(place: Place) -> None:
    """Of many at the same moment as many are taken as there is room for, and one that leaves makes room."""
    task = place.sent("rush")
    for name in ("none", "nobody", "nothing", "no", "never"):
        with place.get(f"/tasks/{name}/events") as answer:
            assert answer.status == 404
    connections = [http.client.HTTPConnection("127.0.0.1", place.port, timeout=20) for _ in range(12)]
    for connection in connections:
        connection.request("GET", f"/tasks/{task}/events", headers={"Connection": "close"})
    answers = [connection.getresponse() for connection in connections]

    assert sorted(answer.status for answer in answers) == [200] * 4 + [503] * 8
    for answer in answers:
        answer.close()
    wait_until(lambda: not place.bridge.open, 10, "all sessions left")
    place.follow(task).close()
    GATES["rush"].set()


@pytest.mark.parametrize(("body", "status"), [(b"\xff\xfe", 400), (b"1" * 3_000_000, 413)])
def test_what_is_no_text_is_refused(body: bytes, status: int, place: Place) -> None:
    """A sentence says why, and no task is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=20)
    with closing(connection):
        connection.request("POST", "/tasks", body)
        answer = connection.getresponse()

        assert (answer.status, answer.read().startswith(b"a text ")) == (status, True)


def test_a_bridge_that_ends_says_so(place: Place) -> None:
    """The browser reads `closed`, which is not the task's end, and the stream ends."""
    task = place.sent("close")
    with place.follow(task) as answer:
        until("progress", answer)
        place.bridge.close()

        kind, _, data = list(blocks(answer))[-1]
    assert (kind, data["state"]) == ("closed", "running")
    GATES["close"].set()


def test_a_task_that_is_none_is_not_found(place: Place) -> None:
    """A browser does not ask again for what was refused."""
    with place.get("/tasks/none/events") as answer:
        assert (answer.status, answer.read()) == (404, b"no such task")
