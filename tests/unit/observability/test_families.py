"""The table of all metrics."""

import re

from blocks_worker.observability.families import HUB, PROCESS, WORKER


def test_names_are_those_that_prometheus_wants() -> None:
    """A name is there once; counters end in `_total`, nothing else does."""
    names = [family.name for family in (*WORKER, *HUB, *PROCESS)]

    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"(blocks_worker|blocks_hub|process)_[a-z_]+", name) for name in names)
    ours = [*WORKER, *HUB]
    assert [each.name for each in ours if (each.kind == "counter") != each.name.endswith("_total")] == []


def test_no_label_names_a_task_or_its_owner() -> None:
    """Labels have few values: agents, instances, and fixed words."""
    labels = {label for family in (*WORKER, *HUB, *PROCESS) for label in family.labels}

    fixed = {"state", "reason", "what", "link", "condition", "method", "route", "status", "quota", "door"}
    assert labels == {"agent", "instance", *fixed}
