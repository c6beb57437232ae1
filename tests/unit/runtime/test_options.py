"""What a provider may say of an instance, before anything is started."""

from __future__ import annotations

from typing import Any

import pytest
from support import SeededEntropy

from blocks_worker.errors import ConfigurationError
from blocks_worker.protocol.tasks import MAX_SECONDS
from blocks_worker.runtime.options import options_of, plan


def planned(**options: Any) -> int:
    """Return the limit of a run that an instance gets."""
    given = {"agent_name": "echo", "handler": lambda task: task, **options}
    return plan(options_of(given), SeededEntropy(1)).max_running_time_sec


def test_a_run_may_have_to_speak_that_often() -> None:
    """[C2] The option wins over the card's key; neither means no such limit, and zero is refused."""

    def limit(**options: Any) -> int | None:
        given = {"agent_name": "echo", "handler": lambda task: task, **options}
        return plan(options_of(given), SeededEntropy(1)).progress_timeout_sec

    card = {"identity": {"agentName": "echo"}, "runtime": {"progressTimeoutSec": 60}}

    assert (limit(), limit(card=card), limit(card=card, progress_timeout_sec=5)) == (None, 60, 5)
    with pytest.raises(ConfigurationError, match="progress_timeout_sec must be 1 or more"):
        limit(progress_timeout_sec=0)


def test_a_run_may_take_a_year_and_not_more() -> None:
    """A limit that no clock can count is refused at the start, by the name of the option or the card's key."""
    assert planned(max_running_time_sec=MAX_SECONDS) == MAX_SECONDS
    with pytest.raises(ConfigurationError, match=r"max_running_time_sec=10000000000000000 .* 31536000"):
        planned(max_running_time_sec=10**16)
    with pytest.raises(ConfigurationError, match=r"runtime.maxRunningTimeSec: must be at most 31536000"):
        planned(card={"identity": {"agentName": "echo"}, "runtime": {"maxRunningTimeSec": MAX_SECONDS + 1}})
