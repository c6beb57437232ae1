"""Whether a lease that came with its offer is fresh enough to be begun without a claim."""

from __future__ import annotations

import pytest

from blocks_worker.protocol.control import GrantedLease, StartTask
from blocks_worker.protocol.leases import ConnectAnswer, Numbers
from blocks_worker.worker.standing import GRANTED_AHEAD, Standing

#: The hub's time when the instance connected, which was at 100.0 by its own clock.
HUB_MS, HERE = 1_700_000_000_000, 100.0


def standing() -> Standing:
    """Return that of an instance which has just connected."""
    answer = ConnectAnswer(
        access_token="",
        refresh_token="",
        expires_in=3600,
        pam_token="",
        pam_expires_in=3600,
        agent_id="a",
        control_channel="c",
        message_key="k",
        numbers=Numbers(),
        hub_time=HUB_MS,
    )
    stands = Standing()
    stands.connected(answer, HERE)
    return stands


def given(hub_time: int = HUB_MS) -> StartTask:
    """Return an offer that brought its lease at this moment of the hub's."""
    lease = GrantedLease(lease="l", attempt=2, max_runtime=9.0, hub_time=hub_time, deadline=7)
    return StartTask(task_id="t", epoch=3, digest="d", granted=lease)


def test_a_fresh_lease_says_what_a_claim_would() -> None:
    """All that the run needs came along."""
    answer = standing().answers_for(given(), HERE + 0.5)

    assert answer is not None
    assert (answer.task_id, answer.epoch, answer.lease, answer.attempt) == ("t", 3, "l", 2)
    assert (answer.digest, answer.max_runtime, answer.deadline) == ("d", 9.0, 7)


def test_a_plain_offer_is_claimed() -> None:
    """Where no lease came along there is nothing to begin with."""
    assert standing().answers_for(StartTask(task_id="t", epoch=3, digest="d"), HERE) is None


@pytest.mark.parametrize(("age", "begins"), [(0.0, True), (2.9, True), (3.0, False), (20.0, False)])
def test_an_old_lease_is_claimed(age: float, begins: bool) -> None:
    """[J4] Who was stopped with an offer in his socket asks before he begins."""
    assert (standing().answers_for(given(), HERE + age) is not None) is begins


def test_a_lease_from_the_future_is_claimed() -> None:
    """A clock that cannot be believed is not."""
    ahead = HUB_MS + int(GRANTED_AHEAD * 1000) + 500

    assert standing().answers_for(given(ahead), HERE) is None


def test_who_may_have_lost_his_leases_claims() -> None:
    """[R17] While the hub was not heard for long, what came before says nothing."""
    stands = standing()
    late = HERE + stands.numbers.lease_ttl

    assert stands.answers_for(given(HUB_MS + int(stands.numbers.lease_ttl * 1000)), late) is None


def test_each_heartbeat_tells_the_hubs_time_anew() -> None:
    """A clock that drifts is set right by the next answer."""
    stands = standing()
    stands.heard(HUB_MS + 60_000, HERE + 50)
    stands.trust.renewed(HERE + 50)

    assert stands.answers_for(given(HUB_MS + 60_000), HERE + 51) is not None
    assert stands.answers_for(given(HUB_MS + 51_000), HERE + 51) is None
