from __future__ import annotations

import pytest

from blocks_worker.hub.store.admission import (
    GROUP_SECONDS,
    GROUP_SETS,
    MAX_WAIT,
    MAX_WAITING,
    SLOW_GROUP_SECONDS,
    Admission,
)


def at_pace(seconds: float, *, sets: int = 1, is_cut: bool = False) -> Admission:
    """Return an admission behind a commit that took so long."""
    admission = Admission()
    admission.committed(sets=sets, seconds=seconds, sync=seconds, is_cut=is_cut)
    return admission


@pytest.mark.parametrize(
    ("waiting", "oldest", "more"),
    [(MAX_WAITING, 0.0, 1), (MAX_WAITING - 1, 0.0, 2), (1, MAX_WAIT + 0.01, 1), (3 * GROUP_SETS, 0.0, 1)],
)
def test_new_work_is_turned_away(waiting: int, oldest: float, more: int) -> None:
    """[E14] Too many wait, or one for too long, or all of them would take too long: it is to come again."""
    assert at_pace(0.9).pause(more, waiting=waiting, oldest=oldest) is not None


@pytest.mark.parametrize(("waiting", "oldest"), [(0, 0.0), (MAX_WAITING - 1, 0.0), (1, MAX_WAIT)])
def test_new_work_is_taken(waiting: int, oldest: float) -> None:
    """Who finds few, none of whom waits for long, waits with them."""
    assert at_pace(0.01).pause(1, waiting=waiting, oldest=oldest) is None


def test_a_very_slow_disk_still_takes_what_comes_alone() -> None:
    """Slow is no reason to take nothing: where nothing waits there is room."""
    assert at_pace(30.0).pause(256, waiting=0, oldest=0.0) is None


def test_the_pause_is_what_is_ahead() -> None:
    """Who was turned away comes again when those before him will be through, within bounds."""
    pauses = [at_pace(pace).pause(MAX_WAITING, waiting=1, oldest=0.0) for pace in (0.001, 1.2, 60.0)]

    assert pauses == [1, 3, 10]


def test_a_commit_that_was_cut_tells_how_many_fit() -> None:
    """A writer that gets through ten in a turn is not believed to get through hundreds."""
    assert at_pace(0.5, sets=10, is_cut=True).ahead(99) == 0.5 * 11
    assert at_pace(0.5, sets=10).ahead(99) == 0.5 * 2


@pytest.mark.parametrize(
    ("sync", "work"), [(0.0, GROUP_SECONDS), (0.1, 0.1), (0.5, SLOW_GROUP_SECONDS), (9.0, SLOW_GROUP_SECONDS)]
)
def test_a_slow_sync_is_shared_by_more(sync: float, work: float) -> None:
    """[E14] The slower the sync, the more work goes into the next one."""
    assert at_pace(sync).group_seconds == work
