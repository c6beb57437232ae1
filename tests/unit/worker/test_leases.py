"""Trust in leases, the hub's clock, the heartbeat's interval."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.protocol.leases import Numbers
from blocks_worker.worker.leases import HubTime, Trust, beat_interval


def test_trust_runs_from_the_begin_of_the_request() -> None:
    """Leases are trusted for their life less the margin, counted from before the request was sent. [R9]"""
    trust = Trust(Numbers(lease_ttl=30, lease_margin=5))
    assert not trust.is_suspect(1000.0)
    trust.renewed(100.0)

    assert trust.trusted_until == 125.0
    assert (trust.is_suspect(124.9), trust.is_suspect(125.0)) == (False, True)


def test_an_older_answer_renews_nothing() -> None:
    """An answer that came late does not shorten what a newer one gave."""
    trust = Trust(Numbers())
    trust.renewed(100.0)
    trust.renewed(90.0)

    assert trust.trusted_until == 125.0


@given(st.integers(0, 2**41), st.floats(0, 1e6), st.integers(-(10**9), 10**9))
def test_the_hubs_moments_are_ours_and_back(hub_ms: int, at: float, offset: int) -> None:
    """Turning a moment of the hub into ours and back gives the same moment."""
    time = HubTime(hub_ms, at)

    assert abs(time.hub_now_ms(time.monotonic(hub_ms + offset)) - (hub_ms + offset)) < 1


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(0.1, 100))
def test_the_interval_is_never_above_a_third_of_a_lease(asked: float, hub: float, ttl: float) -> None:
    """However it is set, three beats fit a lease."""
    interval = beat_interval(asked, Numbers(heartbeat_interval=hub, lease_ttl=ttl))

    assert interval <= ttl / 3
    assert interval <= asked
