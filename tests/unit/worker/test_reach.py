"""Trouble on two ways, and its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blocks_worker.worker.reach import Reach

if TYPE_CHECKING:
    import pytest


def test_the_end_of_a_trouble_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Hub and network lost together are two warnings and one recovery, told with the last of them."""
    reach = Reach()
    with caplog.at_level(logging.INFO):
        reach.found("network")
        reach.lost("hub", error="refused")
        reach.lost("network", link="retrying")
        reach.found("network")
        assert (reach.has("hub"), reach.has("network")) == (False, True)
        before = [record.getMessage() for record in caplog.records]
        reach.found("hub")
        reach.found("hub")
    told = [record.getMessage() for record in caplog.records]

    assert (reach.has("hub"), reach.has("network")) == (True, True)
    assert before == ["transport_retry"] * 2
    assert told == [*before, "transport_recovered"]
