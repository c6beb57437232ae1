"""Tasks within tasks, on the whole way: handlers that ask other agents, over a real hub and its network."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub

from blocks_worker import RpcError, TaskClient, TaskFailedError, TaskInfo, start_agent_instance
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.client.session import TaskSession

#: Calls within calls that are allowed.
DEEPEST = 8


@pytest.fixture
def client() -> Iterator[TaskClient]:
    """Run a hub and open a client of it."""
    with running_hub(state_dir()), TaskClient.create("free") as made:
        yield made


@contextmanager
def serving(**handlers: Callable[..., object]) -> Iterator[None]:
    """Serve each handler as the agent of its name, in one slot."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(start_agent_instance({"agent_name": name, "handler": handler, "drain_timeout": 0}))
            for name, handler in handlers.items()
        ]
        for instance in started:
            instance.wait_ready(30)
        yield


class Child:
    """A handler that says how it was asked and waits for its cancel."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.stopped = threading.Event()
        self.task: Any = None
        self.remaining: float | None = None

    def __call__(self, task: Any, ctx: Any) -> str:
        """Do it."""
        self.task, self.remaining = task, ctx.remaining()
        self.started.set()
        if ctx.wait(30):
            self.stopped.set()
        return "stopped"


def row(client: TaskClient, session: TaskSession) -> TaskInfo:
    """Return a task as the hub lists it."""
    return client.get_task(session.task_id)


def test_a_call_takes_the_options_of_a_send(client: TaskClient) -> None:
    """A retry policy has the sub-task run again that failed; an option that is none is refused by its name. [R-58]"""
    runs: list[int] = []

    def child(_task: Any, ctx: Any) -> str:
        runs.append(ctx.attempt)
        if len(runs) == 1:
            raise LookupError("at first")
        return "at last"

    def parent(_task: Any, ctx: Any) -> str:
        try:
            ctx.call("child", "x", colour="red")
        except TypeError as error:
            refused = str(error).partition(";")[0]
        policy = {"maxAttempts": 2, "initialDelaySec": 0}
        return f"{refused}; {ctx.call('child', 'x', 20, retry_policy=policy).text}"

    with serving(parent=parent, child=child):
        session = client.send_message("parent", "hi")
        assert session.text(20) == "send_message does not know colour; at last"
    assert runs == [1, 2]


def test_a_call_in_one_line_knows_its_parent(client: TaskClient) -> None:
    """The answer comes back, and the sub-task's handler and row name the task that it is done for. [R-58]"""
    asked: list[Any] = []

    def child(task: Any) -> str:
        asked.append(task)
        return task.text().upper()

    with serving(parent=lambda task, ctx: f"<{ctx.call('child', task.text()).text}>", child=child):
        session = client.send_message("parent", "hi")
        assert session.text(20) == "<HI>"

    assert [each.parent_task_id for each in asked] == [session.task_id]
    assert client.get_task(asked[0].task_id).extra["parentTaskId"] == session.task_id
    assert "parentTaskId" not in row(client, session).extra


def test_a_call_takes_no_slot(client: TaskClient) -> None:
    """An agent of one slot may ask itself: the slot is given back while it waits. [C15]"""

    def handler(task: Any, ctx: Any) -> str:
        return "end" if task.text() == "inner" else f"outer {ctx.call('one', 'inner').text}"

    with serving(one=handler):
        assert client.run("one", "outer", 20).text == "outer end"


def test_cancelled_with_its_parent(client: TaskClient) -> None:
    """A cancel of the parent reaches the run of a sub-task that nobody waits for any more, within seconds. [R-58]"""
    child = Child()

    with serving(parent=lambda _task, ctx: ctx.call("child", "x").text, child=child):
        session = client.send_message("parent", "x")
        assert child.started.wait(20)
        session.cancel("enough")

        assert child.stopped.wait(20)
        assert session.wait_for_terminal(20).state == "canceled"
        wait_until(lambda: client.get_task(child.task.task_id).state == "canceled", what="the end of the sub-task")


def test_ended_with_its_parent_although_nobody_asks_for_it(client: TaskClient) -> None:
    """What a handler began by `task_client` and left behind is cancelled by the hub when the parent is done. [R-58]"""
    child = Child()

    def parent(_task: Any, ctx: Any) -> str:
        ctx.task_client.send_message("child", "x")
        child.started.wait(20)
        return "left it behind"

    with serving(parent=parent, child=child):
        assert client.run("parent", "x", 20).text == "left it behind"

        assert child.stopped.wait(20)
        wait_until(lambda: client.get_task(child.task.task_id).state == "canceled", what="the end of the sub-task")
        events = client.connect(child.task.task_id).list_events()
    assert events[-1].reason == "parent_ended"


@pytest.mark.parametrize("limit", ["deadline", "max_runtime"])
def test_the_deadline_is_inherited(client: TaskClient, limit: str) -> None:
    """A sub-task has no more time than its parent has left, whichever limit that has, and ends by it. [R-58]"""
    child = Child()

    with serving(parent=lambda _task, ctx: ctx.call("child", "x", timeout=30).text, child=child):
        limits: dict[str, Any] = {"deadline": int(time.time() * 1000) + 5000} if limit == "deadline" else {limit: 5.0}
        session = client.send_message(agent_name="parent", request_parts="x", **limits)
        assert child.started.wait(20)

        assert child.remaining is not None
        assert 0 < child.remaining <= 5.0
        assert child.stopped.wait(20)
        assert session.wait_for_terminal(20).state == "failed"


def test_eight_levels_and_no_more(client: TaskClient) -> None:
    """An agent that calls itself for ever is stopped at the ninth task by `call_depth_exceeded`. [R-58] [C15]"""
    refused: list[RpcError] = []
    runs: list[str] = []

    def handler(task: Any, ctx: Any) -> str:
        runs.append(task.task_id)
        try:
            return str(ctx.call("endless", "deeper", timeout=30).text)
        except RpcError as error:
            refused.append(error)
            return f"depth {len(runs) - 1}"

    with serving(endless=handler):
        assert client.run("endless", "go", 60).text == f"depth {DEEPEST}"

    assert [error.code for error in refused] == ["call_depth_exceeded"]
    assert refused[0].data == {"depth": DEEPEST + 1, "limit": DEEPEST}
    assert len(runs) == DEEPEST + 1


def test_the_word_of_a_chain_that_is_too_deep_reaches_the_first(client: TaskClient) -> None:
    """Where no handler minds the refusal, each task of the chain fails by it, the first one too."""
    endless = serving(endless=lambda _task, ctx: ctx.call("endless", "deeper", timeout=30).text)
    with endless, pytest.raises(TaskFailedError) as caught:
        client.run("endless", "go", 60)

    assert str(caught.value).endswith("failed: call_depth_exceeded")


def test_an_answer_that_does_not_come_in_time(client: TaskClient) -> None:
    """The call ends with TimeoutError, and the sub-task is cancelled."""
    child = Child()

    def parent(_task: Any, ctx: Any) -> str:
        with pytest.raises(TimeoutError):
            ctx.call("child", "x", timeout=3)
        return "gave up"

    with serving(parent=parent, child=child):
        assert client.run("parent", "x", 20).text == "gave up"
        assert child.stopped.wait(20)


def test_whose_parent_it_may_be(client: TaskClient) -> None:
    """A parent that is not there, or has ended, is refused by name."""
    with serving(echo=lambda task: task.text()):
        ended = client.run("echo", "x", 20).task_id
        codes = []
        for parent in ("nobody-knows-it", ended):
            with pytest.raises(RpcError) as caught:
                client.send_message(agent_name="echo", request_parts="x", parent_task_id=parent)
            codes.append(caught.value.code)

    assert codes == ["NotFound", "InvalidState"]
