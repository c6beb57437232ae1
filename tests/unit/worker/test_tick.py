"""How often a thread comes round that does nothing else."""

import pytest

from blocks_worker.worker.tick import INTERVAL, QUIET_INTERVAL, QUIET_TURNS, pause_after


@pytest.mark.parametrize(
    ("quiet", "pause"),
    [(0, INTERVAL), (QUIET_TURNS - 1, INTERVAL), (QUIET_TURNS, QUIET_INTERVAL), (QUIET_TURNS + 9, QUIET_INTERVAL)],
)
def test_a_worker_without_tasks_is_left_asleep(quiet: int, pause: float) -> None:
    """It comes round often while tasks run and a while after, then seldom."""
    assert (pause_after(quiet), INTERVAL < QUIET_INTERVAL) == (pause, True)
