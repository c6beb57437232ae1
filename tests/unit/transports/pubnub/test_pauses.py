"""How long a reader waits at most before it tries again: what the bound on recovery is made of."""

from __future__ import annotations

import pytest
from support import FakeClock, SeededEntropy

from blocks_worker.transports.pubnub.client import CONNECT_TIMEOUT
from blocks_worker.transports.pubnub.health import Health
from blocks_worker.transports.pubnub.outcomes import Kind

#: Seconds in which all goes on after an outage of any length.
BOUND = 20.0


@pytest.mark.parametrize("nearby", [True, False], ids=["on this machine", "elsewhere"])
@pytest.mark.parametrize("kind", [Kind.UNREACHABLE, Kind.TIMEOUT, Kind.BROKEN, Kind.SERVER, Kind.MISPLACED])
def test_no_pause_is_longer_than_the_bound_allows(kind: Kind, *, nearby: bool) -> None:
    """[R-30] However long the outage: a pause and a connection that is slow to come stay within the bound."""
    health = Health(FakeClock(), SeededEntropy(), nearby=nearby)
    longest = max(health.bad(kind) for _ in range(500))

    assert longest + CONNECT_TIMEOUT < BOUND


def test_a_refusal_is_met_again_soon_on_this_machine() -> None:
    """[R-30] The local network remembers no refusal, so that one which passes costs less than the bound."""
    health = Health(FakeClock(), SeededEntropy(), nearby=True)

    assert max(health.bad(Kind.DENIED) for _ in range(500)) + CONNECT_TIMEOUT < BOUND
