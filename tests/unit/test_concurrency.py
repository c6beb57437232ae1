"""Chance: what is drawn can not be foreseen, and ids sort as they were made."""

from __future__ import annotations

import uuid

from blocks_worker.concurrency import Entropy


def test_ids_sort_as_they_were_made() -> None:
    """Ids of one millisecond are in order, those of a clock that was set back too, and each is a UUID of version 7."""
    entropy = Entropy()
    times = [*[1_700_000_000_000] * 5_000, 1_700_000_000_001, 1_600_000_000_000, 1_800_000_000_000]
    ids = [entropy.uuid7(at) for at in times]

    assert ids == sorted(set(ids))
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert uuid.UUID(ids[-1]).int >> 80 == 1_800_000_000_000
