"""What a worker's process says at its end."""

from __future__ import annotations

from blocks_worker.cli.serving import drained, waiting


def test_outcomes_that_the_hub_has_not_heard_are_told() -> None:
    """Who stops a worker while its hub is away learns that results wait for the next start."""
    heard = {"tasks_completed": 3}

    assert drained(heard) == "drained: 3 completed, 0 failed, 0 canceled, 0 given back"
    told = drained({**heard, "outcomes_unheard": 2, "outcomes_spooled": 2})
    assert told.endswith("0 given back; 2 of them unheard by the hub, 2 kept in the spool for the next start")


def test_a_drain_says_what_it_waits_for() -> None:
    """Who looks on learns which tasks hold the end up, and for how long they may."""
    assert waiting(["a"], 41.6) == "draining: waiting for 1 task (a), 42 s left"
    assert waiting(list("abcde"), 3.0) == "draining: waiting for 5 tasks (a, b, c, …), 3 s left"
    assert waiting([], 3.0).startswith("draining: no task runs")
