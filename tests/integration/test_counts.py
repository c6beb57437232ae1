"""What a task costs in commits, frames and statements: counted, so the same on every machine."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support_frames import FrameProxy
from support_hub import Caller
from support_proxy import cdm_through

from blocks_worker import TaskClient, start_agent_instance
from blocks_worker.concurrency import Deadline
from blocks_worker.config import HubConfig
from blocks_worker.hub.hub import Hub
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

LONE = 40
MANY = 1000
#: Of one task: the submit and its answer, the offer and the report, the report's answer and what the session is told.
FRAMES = 6
STATEMENTS = 13
#: What the hub does beside it in the time of a task, as a part of it, on a slow machine.
SWEEPS = 1
#: The same for frames: heartbeats, and what a run said in two reports; less than one frame more would cost.
BESIDE = 0.9


class Counts(NamedTuple):
    """What had happened at one moment."""

    commits: float
    statements: float
    frames: float

    def since(self, before: Counts, tasks: int) -> Counts:
        """Return what happened since then, a task."""
        return Counts(*((now - then) / tasks for now, then in zip(self, before, strict=True)))


@dataclass
class Place:
    """A hub, a worker and a client whose links are counted."""

    caller: Caller
    proxies: list[FrameProxy]
    client: TaskClient

    def counts(self) -> Counts:
        """Return what the hub and the proxies counted so far."""
        lines = self.caller.ask("GET", "/metrics").body.decode().splitlines()
        told = dict(line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
        frames = sum(sum(proxy.frames.values()) for proxy in self.proxies)
        commits, statements = (
            float(told[name]) for name in ("blocks_hub_commit_group_size_count", "blocks_hub_statements_total")
        )
        return Counts(commits, statements, frames)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run the three, the worker with as many slots as matter."""
    folder, documents = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("cdm")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("BLOCKS_STATE_DIR", str(folder))
        patch.setenv("BLOCKS_TRANSPORT", "hublink")
        hub = Hub(HubConfig(state_dir=folder, port=0, reserve_bytes=1 << 20, transport="hublink"))
        address = hub.start()
        stack.callback(lambda: hub.stop(Deadline(20)))
        caller = Caller(address, StateFolder(folder).local_key())
        stack.callback(caller.pool.clear)
        patch.setenv("BLOCKS_API_KEY", caller.key)
        proxies = [stack.enter_context(FrameProxy(address.url)) for _ in range(2)]
        document = caller.ask("GET", "/api/v1/cdm")
        cdm = [cdm_through(document, documents, hub=each) for each in proxies]
        options = {"agent_name": "echo", "handler": lambda task, _ctx: task.text(), "concurrency": 64}
        agent = stack.enter_context(start_agent_instance({**options, "embedded_hub": False, "cdm_url": cdm[0]}))
        agent.wait_ready(30)
        client = stack.enter_context(TaskClient.create("free", cdm_url=cdm[1], api_key=caller.key, timeout=20))
        client.run("echo", "first", 20)
        yield Place(caller, proxies, client)


def test_a_lone_task(place: Place) -> None:
    """A task that is alone costs two commits, six frames and a handful of statements."""
    before = place.counts()
    for number in range(LONE):
        assert place.client.run("echo", str(number), 20).text == str(number)
    a_task = place.counts().since(before, LONE)
    # The frames of the last task before may come late, and those of the last one too.
    assert FRAMES - BESIDE / 2 < a_task.frames < FRAMES + BESIDE
    # Sweeps and heartbeats commit too, and there is time for some.
    assert 2 <= a_task.commits <= 2 + SWEEPS
    assert a_task.statements <= STATEMENTS * (1 + SWEEPS)


def test_many_tasks(place: Place) -> None:
    """Tasks that are sent together share commits, frames and statements."""
    before = place.counts()
    sessions = place.client.send_many([{"agent_name": "echo", "request_parts": str(number)} for number in range(MANY)])
    assert [session.wait_for_terminal(60).state for session in sessions] == ["completed"] * MANY
    a_task = place.counts().since(before, MANY)
    assert a_task.frames <= FRAMES / 20
    assert a_task.commits <= 2 / 20
    assert a_task.statements <= STATEMENTS / 10
