"""The health port of a real worker process, and a worker that is stopped without ending."""

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3
from acceptance.conftest import Daemon, World
from acceptance.storm import start_hub
from support import wait_until
from support_metrics import page, scrape

#: Seconds in which a stopped worker has to be seen.
SEEN = 30.0


@dataclass
class Stack:
    """A hub and a worker with a health port."""

    world: World
    worker: Daemon
    url: str

    @property
    def hub(self) -> str:
        """Where the hub answers."""
        return self.world.environment["BLOCKS_HUB_URL"]

    def instance(self) -> dict[str, Any]:
        """Return the worker as `blocks agents` shows it."""
        (row,) = self.world.agents()["echo"]
        return row


@pytest.fixture
def stack(world: World) -> Iterator[Stack]:
    """Start both."""
    # A lease that outlasts the looks at a worker that is silent.
    start_hub(world, numbers={"lease_ttl": 120.0})
    worker = world.worker("echo", "--health-port", "0", BLOCKS_LOG_FORMAT="text")
    found = re.search(r"health (http://127\.0\.0\.1:\d+)/readyz", worker.text())
    assert found is not None, worker.text()
    yield Stack(world, worker, found[1])
    worker.process.send_signal(signal.SIGCONT)


def test_a_worker_tells_how_it_does_until_its_end(stack: Stack) -> None:
    """A port by the flag, a taken one, stacks on SIGUSR1, and a stopped process that its hub sees. [R-54] [R-61]"""
    port = stack.url.rpartition(":")[2]
    assert page(f"{stack.url}/readyz").status == 200
    assert scrape(stack.url).sum("blocks_worker_ready", agent="echo") == 1
    assert page(f"{stack.url}/worker").json["pid"] == stack.worker.process.pid

    second = stack.world.run("blocks-run", "--handler", "adder", BLOCKS_HEALTH_PORT=port)
    assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    assert f"the health port {port} is taken; give another" in second.stderr

    stack.worker.process.send_signal(signal.SIGUSR1)
    for place in ("worker/listener.py", "cli/serving.py"):
        stack.worker.wait_for(place)

    _stopped_and_seen(stack)

    assert stack.worker.terminate() == 0
    with pytest.raises(urllib3.exceptions.HTTPError):
        page(f"{stack.url}/livez", timeout=2)


def _stopped_and_seen(stack: Stack) -> None:
    """Stop the process, without ending it, until the hub shows that; let it go on until the hub shows that, too."""
    instance = stack.instance()["instanceId"]
    stack.worker.process.send_signal(signal.SIGSTOP)
    with pytest.raises(urllib3.exceptions.HTTPError):
        page(f"{stack.url}/readyz", timeout=1)
    wait_until(
        lambda: scrape(stack.hub).sum("blocks_hub_instance_ready", instance=instance) == 0, SEEN, "it is not ready"
    )
    told = scrape(stack.hub)
    state = stack.instance()["state"]
    os.kill(stack.worker.process.pid, signal.SIGCONT)

    stack.worker.wait_for("heartbeat_starved")
    assert state == "suspect"
    assert told.sum("blocks_hub_instances", state="suspect") == 1
    assert told.sum("blocks_hub_instance_silent_seconds", instance=instance) > 5
    assert told.sum("blocks_hub_slots", agent="echo") == 0
    wait_until(lambda: json.loads(page(f"{stack.url}/readyz").body)["status"] == "ready", 20, "it is ready again")
    wait_until(lambda: scrape(stack.hub).sum("blocks_hub_instance_ready", instance=instance) == 1, 20, "and seen")
