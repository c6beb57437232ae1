"""Sender: of many tasks the first are asked for before the last are made ready, and none before all were checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from blocks_worker.client.params import SendMessageParams
from blocks_worker.client.sending import Sender
from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import RpcError, SomeRefusedError
from blocks_worker.protocol.tasks import Problem, SubmitAnswer, SubmitTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.client.session import TaskSession
    from blocks_worker.client.subscriptions import Subscriptions
    from blocks_worker.controlplane.tokens import ConsumerLogin

#: A request takes 256 tasks.
MANY = 600
ONE = SendMessageParams(agent_name="echo", request_parts="x")
NOBODY = SendMessageParams(agent_name="nobody")


class Session:
    """Be a session that remembers how many requests had left when it was made, and whether it was cut."""

    def __init__(self, task_id: str, requests: int) -> None:
        self.task_id = task_id
        self.requests = requests
        self.is_cut = False
        self.heard_on = ""

    def accepted(self, answer: SubmitAnswer, *, is_own: bool) -> None:
        """Take in the answer to its own submit."""
        assert is_own
        assert answer.task_id == self.task_id

    def cut(self) -> None:
        """Stop watching."""
        self.is_cut = True


class World:
    """Be hub, login, subscriptions and client of a sender, as far as it needs them."""

    session_channel = "c"

    def __init__(self, *, last_request: int = 10) -> None:
        self.api = self
        self.requests: list[list[str]] = []
        self.sessions: list[Session] = []
        self._last_request = last_request

    def submit(self, items: Sequence[SubmitTask], *, timeout: float) -> list[ItemResult[SubmitAnswer]]:
        """Take in whom anybody knows; beyond the last request refuse everything."""
        assert timeout > 0
        self.requests.append([item.task_id or "" for item in items])
        if len(self.requests) > self._last_request:
            raise RpcError("no more", code="Revoked", status=401)
        return [self._answer(item) for item in items]

    def _answer(self, item: SubmitTask) -> ItemResult[SubmitAnswer]:
        if item.agent_name == "nobody":
            return ItemResult(404, None, Problem(code="NotFound", message="no"))
        answer = SubmitAnswer(
            task_id=item.task_id or "", state="pending", owner_id="o", org_id="o", status_channel="c", idempotent=False
        )
        return ItemResult(201, answer, None)

    def ready(self) -> None:
        """Be ready."""

    def open(self) -> None:
        """Be open."""

    def watch(self, session: Session) -> None:
        """Look at nothing."""

    def new_session(self, task_id: str, _params: SendMessageParams) -> TaskSession:
        """Return a session."""
        self.sessions.append(Session(task_id, len(self.requests)))
        return cast("TaskSession", self.sessions[-1])

    def send(self, *many: SendMessageParams) -> list[Any]:
        """Send them."""
        sender = Sender(
            cast("ConsumerLogin", self),
            cast("Subscriptions", self),
            billing_mode="free",
            inline_limit=1000,
            timeout=20.0,
            clock=Clock(),
            entropy=Entropy(),
        )
        return list(sender.send_many(many, self))


def test_the_first_leave_before_the_last_are_ready() -> None:
    """A request leaves as soon as what it takes is ready; each session listens before its task is asked for."""
    world = World()
    sessions = world.send(*[ONE] * MANY)

    assert [len(request) for request in world.requests] == [256, 256, 88]
    assert [session.requests for session in sessions] == [0] * 256 + [1] * 256 + [2] * 88
    assert [session.task_id for session in sessions] == [task for request in world.requests for task in request]


def test_nothing_leaves_before_all_were_checked() -> None:
    """One that does not fit, behind all others, is told before anything was asked for or listened to."""
    world = World()
    for wrong in ({"duration": 3}, {"metadata": {"x": {2}}}, {"request_parts": [{"n": 10.0**308 * 10}]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            world.send(*[ONE] * MANY, SendMessageParams(agent_name="echo", **wrong))

    assert (world.requests, world.sessions) == ([], [])


def test_what_is_refused_holds_nobody_up() -> None:
    """A refused one among the first leaves the others, and those of later requests, as they are."""
    world = World()
    with pytest.raises(SomeRefusedError, match="1 of 601") as caught:
        world.send(NOBODY, *[ONE] * MANY)

    assert [one.is_cut for one in world.sessions] == [True] + [False] * MANY
    assert caught.value.results[1:] == world.sessions[1:]


def test_an_error_ends_all() -> None:
    """When a request fails for good nothing more is asked for, and the sessions of those before it are cut too."""
    world = World(last_request=1)
    with pytest.raises(RpcError, match="no more"):
        world.send(*[ONE] * MANY)

    assert len(world.requests) == 2
    assert len(world.sessions) == 512
    assert all(one.is_cut for one in world.sessions)
