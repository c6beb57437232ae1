"""The hub comes back, but not where it was: workers and clients that run find it and its network by themselves."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import free_port
from support import wait_until
from support_hub import running_hub
from support_squatter import FORBIDDEN, NOISE, NOT_FOUND, PAGE, Squatter

from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import Daemon, World

    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.session import TaskSession

    Open = Callable[[], TaskClient]

#: Seconds in which all goes on once the hub and its network can be reached.
BOUND = 60.0
#: Seconds in which an end is here when the network brings it; the poll comes after 8 at the earliest.
SOON = 5.0


#: Longer than it takes every backoff to come to its longest pause.
LONG_OUTAGE = 75.0


def network_port(world: World) -> int:
    """Return where the hub of this folder listens with its network."""
    return int(StateFolder(world.folder / "state").load_json("hub-kept.json")["network_port"])


def hold(world: World, here: TaskClient) -> TaskSession:
    """Return the session of a task that runs until the gate is opened."""
    session = here.send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), what="the run")
    wait_until(lambda: session.state == "running", what="the session's first event")
    return session


def goes_on(world: World, worker: Daemon, here: TaskClient, session: TaskSession, old: int) -> None:
    """Check that worker, client and open session are well again within the bound, and heard by the network."""
    end = time.monotonic() + BOUND
    new = network_port(world)
    assert new != old

    wait_until(lambda: here._core._where.now.origin.endswith(f":{new}"), BOUND, "the client at the new network")
    wait_until(lambda: '"transport_moved"' in worker.text(), end - time.monotonic(), "the worker at the new network")
    world.open_gate()
    assert session.wait_for_terminal(timeout=end - time.monotonic()).state == "completed"
    assert session.text() == "done: x"
    assert [event.type for event in session] == ["progress", "artifact", "terminal"]
    assert len(world.notes("start")) == 1
    assert here.run("hold", "again", timeout=end - time.monotonic()).text == "done: again"
    wait_until(lambda: _network_is_back(here), end - time.monotonic(), "the client's transport")
    wait_until(lambda: _comes_live(here), BOUND, "an end that the network brings")
    assert worker.process.poll() is None


def _comes_live(here: TaskClient) -> bool:
    """Tell whether the end of a task is here sooner than a poll would bring it."""
    began = time.monotonic()
    assert here.run("hold", "live", timeout=BOUND).text == "done: live"
    return time.monotonic() - began < SOON


def _network_is_back(here: TaskClient) -> bool:
    return not here._core._where.is_away()


@pytest.mark.parametrize("answer", [b"", NOT_FOUND, PAGE, NOISE], ids=["hangs up", "404", "a page", "noise"])
def test_a_foreign_service_has_the_networks_port(world: World, client: Open, answer: bytes) -> None:
    """Hub killed, its network's port taken: the hub comes back with another, and all goes on. [R-30]"""
    hub = world.hub()
    worker = world.worker("handlers:hold", "--no-local", BLOCKS_LOG_FORMAT="json")
    here = client()
    session, old = hold(world, here), network_port(world)
    hub.kill()
    with Squatter(old, answer) as squatter:
        wait_until(lambda: squatter.heard, timeout=60, what="a call at the old port")
        world.hub()
        goes_on(world, worker, here, session, old)


def test_nobody_has_the_networks_port(world: World, client: Open) -> None:
    """The port was taken while the hub came back, and is free now: what is refused there moves. [R-30]"""
    hub = world.hub()
    worker = world.worker("handlers:hold", "--no-local", BLOCKS_LOG_FORMAT="json")
    here = client()
    session, old = hold(world, here), network_port(world)
    hub.kill()
    with Squatter(old):
        world.hub()
    goes_on(world, worker, here, session, old)


def test_another_users_hub_has_the_networks_port(world: World, client: Open) -> None:
    """It speaks the same language and knows none of our keys: what it refuses moves. [R-30]"""
    hub = world.hub()
    worker = world.worker("handlers:hold", "--no-local", BLOCKS_LOG_FORMAT="json")
    here = client()
    session, old = hold(world, here), network_port(world)
    hub.kill()
    with running_hub(world.folder / "other", network_port=old):
        world.hub()
        goes_on(world, worker, here, session, old)


@pytest.mark.parametrize("who", ["403", "another hub"])
def test_the_hub_itself_moved(world: World, client: Open, who: str) -> None:
    """Both ports are somebody else's, who refuses everybody: nobody gives up, and the hub of the folder is found."""
    hub = world.hub()
    worker = world.worker("handlers:hold", "--no-local", BLOCKS_LOG_FORMAT="json")
    here = client()
    session, old = hold(world, here), network_port(world)
    hub.kill()
    with ExitStack() as stack:
        if who == "403":
            stack.enter_context(Squatter(world.port, FORBIDDEN))
            stack.enter_context(Squatter(old, FORBIDDEN))
        else:
            stack.enter_context(running_hub(world.folder / "other", port=world.port, network_port=old))
        # Long enough for a heartbeat, and for what its refusal leads to.
        wait_until(lambda: worker.text().count("transport_retry") >= 2, timeout=60, what="trouble")
        world.start("blocks-hub", "--port", str(free_port())).wait_for("[hub] listening")
        goes_on(world, worker, here, session, old)


def test_a_takeover_on_other_ports(world: World, client: Open) -> None:
    """The worker with the hub is killed, both its ports are taken: the other one serves elsewhere. [R-30]"""
    first = world.worker("echo")
    second = world.worker("handlers:hold", BLOCKS_LOG_FORMAT="json")
    here = client()
    session, old = hold(world, here), network_port(world)
    os.kill(second.process.pid, signal.SIGSTOP)
    first.kill()
    with Squatter(world.port, NOT_FOUND), Squatter(old, NOT_FOUND):
        os.kill(second.process.pid, signal.SIGCONT)
        wait_until(lambda: network_port(world) != old, BOUND, "the takeover")
        goes_on(world, second, here, session, old)


@pytest.mark.long
def test_a_long_outage_and_another_place(world: World, client: Open) -> None:
    """Away for so long that all wait their longest, then back at other addresses: the bound is the same. [R-30]"""
    hub = world.hub()
    worker = world.worker("handlers:hold", "--no-local", BLOCKS_LOG_FORMAT="json")
    here = client()
    session, old = hold(world, here), network_port(world)
    hub.kill()
    threading.Event().wait(LONG_OUTAGE)
    with Squatter(world.port, NOT_FOUND), Squatter(old, NOT_FOUND):
        world.start("blocks-hub", "--port", str(free_port())).wait_for("[hub] listening")
        goes_on(world, worker, here, session, old)


@pytest.mark.long
def test_a_long_outage_and_the_same_place(world: World, client: Open) -> None:
    """Away for as long, then back where it was. [R-30]"""
    hub = world.hub()
    world.worker("handlers:hold", "--no-local", BLOCKS_LOG_FORMAT="json")
    here = client()
    session = hold(world, here)
    hub.kill()
    threading.Event().wait(LONG_OUTAGE)
    world.open_gate()
    world.hub()
    end = time.monotonic() + BOUND

    assert session.wait_for_terminal(timeout=end - time.monotonic()).state == "completed"
    assert here.run("hold", "again", timeout=end - time.monotonic()).text == "done: again"
    wait_until(lambda: _network_is_back(here), end - time.monotonic(), "the client's transport")
    wait_until(lambda: _comes_live(here), BOUND, "an end that the network brings")
