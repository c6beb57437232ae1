"""The network answers nothing, refuses everything, or is cut off together with the hub: no task minds, nobody rages."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from acceptance.storm import Sent, expected, runs_of, start_hub, wish, write_handler
from support import wait_until
from support_hub import Caller
from support_proxy import FaultProxy, cdm_through

from blocks_worker.client.client import TaskClient
from blocks_worker.errors import BlocksError
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from acceptance.conftest import World

SLOTS = 4
TASKS = 24
#: Seconds of submits before the outage: some tasks run when it begins.
LEAD = 1.0
#: Offers in a row that prove it, when they come within less than the least pause between two heartbeats.
PROOFS = 4
REFUSAL = json.dumps({"message": "Forbidden", "payload": {}, "error": True, "service": "Access Manager", "status": 403})


@dataclass
class Site:
    """One hub with its worker and client, each of which goes through proxies of its own."""

    world: World
    hub: Caller
    client: TaskClient
    heartbeat: float
    #: Between the worker, and the client, and the hub.
    calls: list[FaultProxy]
    #: Between the worker, and the client, and the network.
    polls: list[FaultProxy]
    sent: list[Sent] = field(default_factory=list)
    failures: list[BlocksError] = field(default_factory=list)

    def play(self, do: str, **how: Any) -> None:
        """Have the network do something that it should not."""
        body = json.dumps({"do": do, **how}).encode()
        answered = self.hub.pool.request("POST", f"{self.hub.address.origin}/_ctl", body=body, timeout=20.0)
        assert answered.status == 200, answered.data

    def send(self, text: str) -> Sent:
        """Submit one task, and note what its session tells."""
        sent = Sent(text, self.client.send_message(agent_name="chaotic", request_parts=text, timeout=60.0))
        sent.session.on_event(sent.events.append)
        sent.session.on_terminal(sent.terminals.append)
        self.sent.append(sent)
        return sent

    def submit_for(self, seconds: float) -> list[threading.Thread]:
        """Begin to submit tasks, each from a thread of its own, spread over so many seconds."""
        dice = random.Random(len(self.sent))
        wishes = [wish(dice, task) for task in range(TASKS)]
        threads = [
            threading.Thread(target=self._submit, args=(text, seconds * number / TASKS))
            for number, text in enumerate(wishes)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _submit(self, text: str, after: float) -> None:
        threading.Event().wait(after)
        try:
            self.send(text)
        except BlocksError as error:
            self.failures.append(error)

    def hears_by_network(self) -> bool:
        """Tell whether some tasks start one after another in less time than there is between two heartbeats."""
        begun = time.monotonic()
        for _ in range(PROOFS):
            sent = self.send(json.dumps({"task": len(self.sent), "seconds": 0.0, "copies": 1}))
            wait_until(lambda sent=sent: self._started(sent), timeout=30, what="the start of a task")  # type: ignore[misc]
        return time.monotonic() - begun < 0.8 * self.heartbeat

    def _started(self, sent: Sent) -> bool:
        return any(run.task == sent.session.task_id for run in runs_of(self.world.runs))

    def asked(self) -> list[int]:
        """Return how many connections and requests worker and client have made to the network, each."""
        return [len(proxy.exchanges) + proxy.connections for proxy in self.polls]


@contextmanager
def site(world: World, folder: Path, heartbeat: float) -> Iterator[Site]:
    """Start everything; it ends with the block."""
    numbers = {"heartbeat_interval": heartbeat}
    start_hub(world, numbers=numbers, testing=True)
    state = StateFolder(world.folder / "state")
    address = state.discovered()
    assert address is not None
    hub = Caller(address, state.local_key())
    cdm = hub.ask("GET", "/api/v1/cdm")
    (folder / "cdm").mkdir()
    write_handler(world.folder)
    with (
        FaultProxy(address.url) as worker_calls,
        FaultProxy(address.url) as client_calls,
        FaultProxy(address.origin) as worker_polls,
        FaultProxy(address.origin) as client_polls,
    ):
        of_worker = cdm_through(cdm, folder / "cdm", hub=worker_calls, network=worker_polls)
        of_client = cdm_through(cdm, folder / "cdm", hub=client_calls, network=client_polls)
        worker = world.worker(
            "chaotic:handler", "--no-local", "--concurrency", str(SLOTS),
            BLOCKS_CDM_URL=of_worker, BLOCKS_API_KEY=hub.key,
        )  # fmt: skip
        try:
            with TaskClient.create("free", cdm_url=of_client, api_key=hub.key) as client:
                yield Site(world, hub, client, heartbeat, [worker_calls, client_calls], [worker_polls, client_polls])
        finally:
            worker.terminate()
            hub.pool.clear()


@dataclass(frozen=True)
class Outage:
    """One kind of outage; the times are seconds."""

    begin: Callable[[Site, float], None]
    end: Callable[[Site], None]
    #: Within how long after the end the worker hears of offers by the network again.
    hears: float = 20.0


def _silence(place: Site, seconds: float) -> None:
    place.play("blackhole", seconds=seconds)


def _swallow(place: Site, _seconds: float) -> None:
    for proxy in place.polls:
        proxy.black_hole()


def _relent(place: Site) -> None:
    for proxy in place.polls:
        proxy.relent()


def _refuse(place: Site, _seconds: float) -> None:
    place.play("add", kind="status", count=None, status=403, body=REFUSAL)


def _cut(place: Site, _seconds: float) -> None:
    for proxy in (*place.calls, *place.polls):
        proxy.cut()


def _mend(place: Site) -> None:
    for proxy in (*place.calls, *place.polls):
        proxy.heal()


OUTAGES = {
    "silence": Outage(_silence, lambda _place: None),
    # The same, but nobody ever hears what became of the connections: three probes have to be missed, which takes
    # four heartbeats of six seconds at most, and a transport that was built anew just before the end hangs as well.
    "swallowed": Outage(_swallow, _relent, hears=30.0),
    "refusals": Outage(_refuse, lambda place: place.play("clear")),
    "cut": Outage(_cut, _mend),
}


@pytest.mark.parametrize(("kind", "seconds"), [("silence", 6.0), ("refusals", 5.0), ("cut", 4.0)])
def test_a_short_outage_of_the_network_loses_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, seconds: float
) -> None:
    """What is submitted meanwhile completes, once; offers soon come by the network; nobody rages. [P1] [P8] [A5]"""
    _out(world, tmp_path, capsys, kind=kind, seconds=seconds, heartbeat=2.0)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "seconds"), [("silence", 20.0), ("swallowed", 20.0), ("refusals", 15.0), ("cut", 10.0)]
)
def test_a_long_outage_of_the_network_loses_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, seconds: float
) -> None:
    """The same for as long as people notice, with the numbers that a hub has by itself. [P1] [P4] [P8] [A5]"""
    _out(world, tmp_path, capsys, kind=kind, seconds=seconds, heartbeat=5.0)


def _out(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str], *, kind: str, seconds: float, heartbeat: float
) -> None:
    outage = OUTAGES[kind]
    with site(world, folder, heartbeat) as place:
        wait_until(place.hears_by_network, timeout=30, what="offers by the network")
        threads = place.submit_for(LEAD + seconds)
        threading.Event().wait(LEAD)
        before, begun = place.asked(), time.time()
        outage.begin(place, seconds)
        threading.Event().wait(seconds)
        lasted = time.time() - begun
        asked = [after - earlier for after, earlier in zip(place.asked(), before, strict=True)]
        outage.end(place)
        ended = time.time()
        started = sum(begun < run.start < ended for run in runs_of(world.runs))
        hears = _hears_again(place, ended)
        for thread in threads:
            thread.join(60)
        wait_until(lambda: all(sent.session.is_closed for sent in place.sent), timeout=60, what="the last ends")
        with capsys.disabled():
            print(  # noqa: T201 - the figures are what a long test is run for
                f"\n{kind} {seconds:g} s: {started} of {TASKS} tasks began meanwhile, the last end was known after "
                f"{time.time() - ended:.1f} s; offers came by the network again after {hears:.1f} s; "
                f"worker and client asked it {asked} times meanwhile"
            )
        assert not place.failures, place.failures
        assert hears <= outage.hears
        assert started or kind == "cut", "heartbeats bring offers when the network does not"
        # Each try costs at most a few requests, and waits longer the more there were.
        assert max(asked) <= 15 + 2 * lasted, asked
        _all_ended_once(place)


def _hears_again(place: Site, since: float) -> float:
    """Return how many seconds after a moment the worker began to hear offers by the network."""
    while True:
        heard, after = place.hears_by_network(), time.time() - since
        if heard:
            return after
        assert after < 60, "the worker hears nothing by the network any more"


def _all_ended_once(place: Site) -> None:
    starts = [run.task for run in runs_of(place.world.runs)]
    assert sorted(starts) == sorted(sent.session.task_id for sent in place.sent), "each task ran once"
    for sent in place.sent:
        assert [event.state for event in sent.terminals] == ["completed"]
        assert [event.type for event in sent.events].count("terminal") == 1
        assert sent.session.result().artifacts[0].data == expected(sent.text)
        row = place.client.get_task(sent.session.task_id)
        assert (row.state, row.extra["epoch"]) == ("completed", sent.terminals[0].epoch)
