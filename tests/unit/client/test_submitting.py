"""Submitter: a submit whose answer is lost is sent again as it was, until its time is over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support import FakeClock
from support_http import HANG_UP, reply, served

from blocks_worker.client.params import SendMessageParams
from blocks_worker.client.submitting import Submit, Submitter, Wanted
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.controlplane.api import HubApi
from blocks_worker.errors import HubUnavailableError, RpcError
from blocks_worker.protocol.tasks import SubmitTask

if TYPE_CHECKING:
    from blocks_worker.controlplane.http import Http
    from blocks_worker.protocol.tasks import SubmitAnswer

TASK = SubmitTask(agent_name="echo", task_id="t", idempotency_key="k")
WANTED = Wanted("t", SendMessageParams(agent_name="echo"), TASK, 100)
#: Bytes of bodies: as many small ones as fit into one request and some, two halves, and two that each are too large.
SIZES = [1] * 300 + [500_000] * 2 + [2_000_000, 1_000_000]
TAKEN = {"taskId": "t", "state": "pending", "ownerId": "o", "orgId": "g", "statusChannel": "c"}


def item(status: int, body: object) -> bytes:
    """Return the answer to a batch of one."""
    return reply(200, json.dumps([{"status": status, "body": body}]).encode())


class MovingClock(FakeClock):
    """Let a pause pass at once, and no time else."""

    def pause(self, seconds: float) -> None:
        """Be later."""
        self.advance(seconds)


class Longest(Entropy):
    """Draw the longest of all pauses."""

    def uniform(self, low: float, high: float) -> float:
        """Return the higher number."""
        return max(low, high)


def submitter(http: Http) -> Submitter:
    """Return a submitter of this client."""
    return Submitter(HubApi(http), clock=Clock(), entropy=Entropy())


def submitted(http: Http) -> SubmitAnswer:
    """Submit the task, and wait for nothing: of 16 s the last try, after 11.3 s of pauses, still has 4.7 s."""
    clock = MovingClock()
    one = Submit(WANTED, Deadline(16, clock))
    return Submitter(HubApi(http), clock=clock, entropy=Longest()).submit(one)


def test_lost_and_unknown_answers() -> None:
    """[3.4] After a lost answer, an unavailable hub and an unknown outcome the same bytes are sent again."""
    unknown = item(503, {"code": "Busy", "message": "later"})
    with served(HANG_UP, HANG_UP, reply(503), unknown, item(201, TAKEN)) as (server, http):
        answer = submitter(http).submit(Submit(WANTED, Deadline(20)))

    assert answer.task_id == "t"
    assert len(server.requests) == 5
    assert len({request.partition(b"\r\n\r\n")[2] for request in server.requests}) == 1


@pytest.mark.parametrize("status", [400, 422, 429, 507])
def test_refusals_are_not_repeated(status: int) -> None:
    """A refusal is told at once, with its code and status."""
    with served(item(status, {"code": "No", "message": "no"})) as (server, http), pytest.raises(RpcError) as caught:
        submitter(http).submit(Submit(WANTED, Deadline(20)))

    assert (caught.value.code, caught.value.status, len(server.requests)) == ("No", status, 1)


def test_time_is_over() -> None:
    """When the time is over, what stood in the way last is raised."""
    with served(*[HANG_UP] * 40) as (_, http), pytest.raises(HubUnavailableError):
        submitted(http)
    with (
        served(*[item(503, {"code": "Busy", "message": "later"})] * 20) as (_, http),
        pytest.raises(RpcError) as caught,
    ):
        submitted(http)
    assert caught.value.status == 503


def test_batches_are_as_large_as_a_request_takes() -> None:
    """Submits fill requests by number and by bytes, in order; one that is too large goes alone."""
    with served() as (_, http):
        many = [Submit(WANTED._replace(task_id=str(one), size=size), Deadline(20)) for one, size in enumerate(SIZES)]
        batches = list(submitter(http).in_batches(many))

    assert [len(batch) for batch in batches] == [256, 46, 1, 1]
    assert [one for batch in batches for one in batch] == many
