"""What the benchmarks ask of the product alone, at a real hub: a change of the product is seen before they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from peers.handlers import pour, tell
from peers.ours import Client
from support_hub import running_hub

from blocks_worker import start_agent_instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from peers.loads import Workloads

    from blocks_worker import AgentInstance


@pytest.fixture(params=["pubnub", "hublink"])
def workloads(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workloads]:
    """Run a hub, the handlers that tell and pour, and the client of the benchmarks."""
    with running_hub(tmp_path) as caller:
        monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path))
        monkeypatch.setenv("BLOCKS_CDM_URL", f"{caller.address.url}/api/v1/cdm")
        monkeypatch.setenv("BLOCKS_TRANSPORT", request.param)
        monkeypatch.setenv("BENCH_TRANSPORT", request.param)
        with serving("tell", tell), serving("pour", pour):
            client = Client()
            yield client.workloads()
            client.close()


def serving(name: str, handler: Any) -> AgentInstance:
    """Return an instance that is ready."""
    instance = start_agent_instance({"agent_name": name, "handler": handler})
    instance.wait_ready(30)
    return instance


def test_events_and_bytes_come_as_they_were_told_and_written(workloads: Workloads) -> None:
    """More events than a session keeps and more bytes than a late reader would have: none is wrong."""
    assert workloads.events(300)["wrong"] == 0
    assert workloads.stream(2)["wrong"] == 0


def test_sessions_of_tasks_that_nobody_takes_stay_open(workloads: Workloads) -> None:
    """They are asked for, wait, and do so after others were done."""
    assert workloads.hold(20)["wrong"] == 0
    assert workloads.events(1)["wrong"] == 0
    assert workloads.held(20)["wrong"] == 0
    assert workloads.held(21)["wrong"] == 1
