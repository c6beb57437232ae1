"""[H6] [H8] A hub under bent calls over real sockets: it answers each in time, never with a fault of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fuzzing.api import examine
from fuzzing.calling import Calls
from support import wait_until
from support_hub import Caller, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the state folder of the hub."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[Caller]:
    """Give a running hub."""
    with running_hub(folder) as caller:
        yield caller


def test_bent_calls_end_nothing(hub: Caller, folder: Path) -> None:
    """[H6] [H8] [K10] Bodies, addresses, lengths, chunks, forms, smuggled calls, links: no 5xx, none waits."""
    calls = Calls(hub, folder, seed=4)

    calls.play(500)

    told = calls.told.values()
    assert [fault for each in told for fault in each.faults] == []
    assert all(each.calls for each in told), "every way to bend a call is used"
    assert sum(each.statuses["200"] + each.statuses["201"] for each in told) > 30, "some get behind the doors"
    wait_until(lambda: hub.ask("GET", "/readyz").status == 200, what="it is ready")


def test_the_document_is_kept_to(hub: Caller, folder: Path) -> None:
    """[H6] schemathesis asks what the document describes: answers are documented, in time, and of the shape told."""
    told = examine(hub, folder, examples=4, seed=4)

    assert told.faults == []
    assert told.calls > 100
    assert len(told.opened) > 20, "tokens and ids are good enough to get behind most doors"
