"""All tasks counted, those that were purged too."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support_worker import LedgerInProcess

from blocks_worker.hub.due import RETENTION_MS
from blocks_worker.hub.store.survey import survey
from blocks_worker.protocol.leases import ConnectRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.hub.store.survey import Survey


@pytest.fixture
def hub() -> Iterator[LedgerInProcess]:
    """Return a ledger that knows one agent."""
    with LedgerInProcess() as ledger:
        ledger.connect(ConnectRequest(agent_name="echo", instance_id="one", incarnation="life-1"))
        yield ledger


def counted(hub: LedgerInProcess) -> Survey:
    """Count all."""
    return hub.store.survey(lambda ledger: survey(ledger, 0))


def test_what_waits_and_what_ended_is_what_was_accepted(hub: LedgerInProcess) -> None:
    """Each task is in one count, whatever became of it. [R-54]"""
    tasks = [hub.submit() for _ in range(5)]
    for task in tasks[:2]:
        hub.cancel(task)
    told = counted(hub)

    assert (told.accepted, told.ended, told.waiting) == (5, Counter({("echo", "canceled"): 2}), Counter(echo=3))
    assert told.oldest["echo"] == hub.row(tasks[2]).created_time


def test_purged_tasks_stay_counted(hub: LedgerInProcess) -> None:
    """A purge takes rows away and no numbers, however often it comes. [R-54]"""
    for _ in range(2):
        for task in [hub.submit() for _ in range(3)]:
            hub.cancel(task)
        before = counted(hub)
        later = hub.steady.now_ms() + RETENTION_MS + 1
        assert hub.write(lambda ledger: ledger.purge_tasks(later, 2, "retention")) == 2  # noqa: B023 - called at once
        hub.write(lambda ledger: ledger.purge_tasks(later, 10, "retention"))  # noqa: B023 - called at once

        assert counted(hub)[:3] == before[:3]
    assert counted(hub).accepted == 6


def test_what_is_undone_is_not_counted(hub: LedgerInProcess) -> None:
    """What happened in a set that failed did not happen. [R-54]"""

    def fails(ledger: object) -> None:
        ledger.counted("retries")  # type: ignore[attr-defined]  # a Ledger
        raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        hub.write(fails)
    hub.write(lambda ledger: ledger.counted("lease_lost"))

    assert (hub.store.counts["retries"], hub.store.counts["lease_lost"]) == (0, 1)
    assert hub.store.groups.read().total >= 2
