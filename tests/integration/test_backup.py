"""A copy of the ledger while its hub works, and what becomes of everybody when it is put back."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import BareRun, Caller, running_hub

from blocks_worker import AgentInstanceOptions, TaskClient, start_agent_instance
from blocks_worker.cli.main import blocks
from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.config import state_dir
from blocks_worker.errors import RpcError, StoreError
from blocks_worker.hub.core import DATABASE
from blocks_worker.hub.store.ledger import EPOCHS_LEFT_OUT, EVENTS_LEFT_OUT
from blocks_worker.hub.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.context.task import TaskContext


def run(*arguments: str | Path) -> Result:
    """Run a command of `blocks`."""
    return CliRunner().invoke(blocks, [str(one) for one in arguments])


def port_of(hub: Caller) -> int:
    """Return where a hub listens."""
    return int(hub.address.url.rpartition(":")[2])


class Held:
    """A handler that returns once it may, or is to stop; it notes what began and what was told to stop."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.stopped: list[str] = []
        self.go = threading.Event()

    def __call__(self, task: StartTaskMessage, ctx: TaskContext) -> str:
        """Wait."""
        self.began.append(task.text())
        while not self.go.is_set():
            if ctx.wait(0.02):
                self.stopped.append(task.text())
                break
        return f"done: {task.text()}"


def test_a_ledger_that_went_back_in_time_hurts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied under load, put back later: leases void, workers come anew, each session ends once. [E17] [P3] [P5]"""
    handler, copy = Held(), tmp_path / "copy"
    with running_hub(state_dir()) as hub:
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        port, cdm = port_of(hub), f"{hub.address.url}/api/v1/cdm"
        instance = start_agent_instance(
            AgentInstanceOptions(
                agent_name="held", handler=handler, concurrency=2, embedded_hub=False, heartbeat_ms=500, cdm_url=cdm
            )
        )
        client = TaskClient.create("free", cdm_url=cdm, api_key=hub.key)
        instance.wait_ready(30)
        before = client.send_message("held", "before")
        wait_until(lambda: handler.began == ["before"], what="its run")
        assert run("backup", copy).exit_code == 0
        since = client.send_message("held", "since")
        wait_until(lambda: len(handler.began) == 2, what="the run of what came since")
        wait_until(lambda: hub_events(hub, since.task_id), what="what they have said so far")
        last = max(event["seq"] for event in hub_events(hub, since.task_id, before.task_id))
        refused = run("restore", copy)
    replaced = run("restore", copy)
    with client, instance, running_hub(state_dir(), port=port) as hub:
        wait_until(
            lambda: sorted(handler.stopped) == ["before", "since"], 30, "the end of what the copy knows nothing of"
        )
        wait_until(lambda: handler.began.count("before") == 2, 30, "another run")
        handler.go.set()

        assert before.wait_for_terminal(30).state == "completed"
        assert before.text() == "done: before"
        assert client.run("held", "after", timeout=30).text == "done: after"
        with pytest.raises(RpcError, match="no such task"):
            client.get_task(since.task_id)
        events = hub_events(hub, before.task_id)
    assert [event["type"] for event in before].count("terminal") == 1
    assert min(event["seq"] for event in events if event["epoch"] > EPOCHS_LEFT_OUT) > last + EVENTS_LEFT_OUT - 100
    assert f"a hub runs on the state folder {state_dir()} (process {os.getpid()}; a worker" in refused.stderr
    assert refused.exit_code == 1
    assert "hub.sqlite3.replaced" in replaced.stdout


def hub_events(hub: Caller, *tasks: str) -> list[dict[str, object]]:
    """Return what the ledger has of tasks."""
    token = hub.consumer()["accessToken"]
    return [
        event for task in tasks for event in hub.ask("GET", f"/api/v1/tasks/{task}/events", bearer=token).json["events"]
    ]


def test_no_lease_of_before_counts_after(tmp_path: Path) -> None:
    """A report, a claim and a beat with what was given before are refused; the same task is offered anew. [E17] [I5]"""
    copy = tmp_path / "copy"
    with running_hub(state_dir()) as hub:
        port = port_of(hub)
        instance, consumer = hub.connect(concurrency=2)["accessToken"], hub.consumer()["accessToken"]
        hub.ask("POST", "/api/v1/heartbeats", {"free": 2}, bearer=instance)
        held = hub.submit(consumer, requestParts=[{"text": "held"}])
        lease = BareRun(hub, instance, held)._turn
        hub.ask("POST", "/api/v1/heartbeats", {"free": 1, "held": [_listed(lease)]}, bearer=instance)
        waits = hub.submit(consumer, requestParts=[{"text": "waits"}])
        (offer,) = hub.ask("POST", "/api/v1/heartbeats", {"free": 1, "held": [_listed(lease)]}, bearer=instance).json[
            "offers"
        ]
        once = hub.submit(consumer, requestParts=[{"text": "once"}], delivery="at_most_once")
        assert run("backup", copy).exit_code == 0
    assert run("restore", copy).exit_code == 0
    with running_hub(state_dir(), port=port) as hub:
        late = hub.ask("POST", "/api/v1/reports", {**lease, "events": [], "release": True}, bearer=instance)
        claim = hub.ask("POST", "/api/v1/claims", {"taskId": waits, "epoch": offer["epoch"]}, bearer=instance)
        beat = hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
        again = hub.connect(incarnation="echo-life-2", concurrency=2)["accessToken"]
        offers = hub.ask("POST", "/api/v1/heartbeats", {"free": 2}, bearer=again).json["offers"]
        ended = hub.ask("GET", f"/api/v1/tasks/{once}", bearer=consumer).json
        row = hub.ask("GET", f"/api/v1/tasks/{held}", bearer=consumer).json

    assert (late.status, claim.status) == (409, 410), (late, claim)
    assert (beat.status, beat.code) == (410, "IncarnationUnknown")
    assert {offer["taskId"] for offer in offers} == {held, waits}
    assert all(offer["epoch"] > EPOCHS_LEFT_OUT for offer in offers)
    assert (ended["state"], ended["reason"]) == ("canceled", "restored")
    assert row["attempt"] == 0, "what a copy takes back counts for nothing"


def _listed(turn: dict[str, object]) -> dict[str, object]:
    return {"taskId": turn["taskId"], "epoch": turn["epoch"]}


def test_a_restart_is_no_return_in_time(tmp_path: Path) -> None:
    """A hub that starts on its own ledger, also after it was copied, voids nothing; a copy is one once only. [E17]"""
    with running_hub(state_dir()) as hub:
        port = port_of(hub)
        instance, consumer = hub.connect()["accessToken"], hub.consumer()["accessToken"]
        hub.ask("POST", "/api/v1/heartbeats", {"free": 1}, bearer=instance)
        held = hub.submit(consumer, requestParts=[{"text": "held"}])
        bare = BareRun(hub, instance, held)
        assert run("backup", tmp_path / "copy").exit_code == 0
    with running_hub(state_dir(), port=port):
        bare.end()
    assert run("restore", tmp_path / "copy").exit_code == 0
    epochs = []
    for _ in range(2):
        with running_hub(state_dir(), port=port):
            epochs.append(_epoch(state_dir() / DATABASE, held))

    assert epochs[0] == epochs[1] > EPOCHS_LEFT_OUT


def _epoch(ledger: Path, task: str) -> int:
    with closing(sqlite3.connect(ledger)) as reader:
        (epoch,) = reader.execute("SELECT epoch FROM task WHERE id = ?", (task,)).fetchone()
        return int(epoch)


def test_what_is_no_copy_is_not_put_back(tmp_path: Path) -> None:
    """Nothing, junk, a damaged ledger, a taken name: one line each, and the ledger stays byte for byte. [E6]"""
    with running_hub(state_dir()):
        pass
    ledger = state_dir() / DATABASE
    before = ledger.read_bytes()
    junk, damaged = tmp_path / "junk", tmp_path / "damaged"
    junk.write_bytes(b"no ledger at all" * 1000)
    damaged.write_bytes(before[:8192] + b"\xff" * 4096 + before[12288:])
    done = [run("restore", wrong) for wrong in (tmp_path / "none", junk, damaged)] + [run("backup", junk)]

    assert [one.exit_code for one in done] == [1] * 4
    assert [
        word in one.stderr for word, one in zip(["no ledger", "copied", "damaged", "there already"], done, strict=True)
    ] == [True] * 4
    assert ledger.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["damaged", "junk"]


def test_each_ledger_that_was_replaced_is_kept(tmp_path: Path) -> None:
    """Put back twice: each success names where the ledger of before lies, and both are whole. [E17]"""
    with running_hub(state_dir()):
        pass
    ledger, copy = state_dir() / DATABASE, tmp_path / "copy"
    assert run("backup", copy).exit_code == 0
    befores, asides = [], [ledger.with_name(f"{DATABASE}.{end}") for end in ("replaced", "replaced-2", "replaced-3")]
    said = []
    for _ in asides:
        befores.append(ledger.read_bytes())
        said.append(run("restore", copy).stdout)

    assert said == [f"{copy} is the ledger now; what it replaced is {aside}\n" for aside in asides]
    assert [aside.read_bytes() for aside in asides] == befores
    assert befores[0] != befores[1]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("none/x", "the folder {0}/none is not there: make it, or name a file in another one"),
        ("file/x", "the folder {0}/file is no folder: make it, or name a file in another one"),
        ("/proc/x", "nothing can be written to the folder /proc (No such file or directory): mend its rights, or name"),
    ],
)
def test_a_copy_goes_where_it_can_be_written(tmp_path: Path, place: str, said: str) -> None:
    """Which folder is missing, or takes no file, is told with what to do."""
    with running_hub(state_dir()):
        pass
    (tmp_path / "file").touch()
    told = run("backup", tmp_path / place)

    assert told.exit_code == 1
    assert told.stderr.startswith(f"blocks: {said.format(tmp_path)}")


def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A ledger with one spoilt byte is refused by name, or is as sound as SQLite can tell: none serves broken. [E6]"""
    with running_hub(state_dir()) as hub:
        consumer = hub.consumer()["accessToken"]
        hub.connect()
        for _ in range(40):
            hub.submit(consumer, requestParts=[{"text": "x" * 300}])
    assert run("backup", tmp_path / "sound").exit_code == 0
    sound, dice = (tmp_path / "sound").read_bytes(), random.Random(20)
    found = {"refused": 0, "served": 0}
    for _ in range(1000 if request.config.getoption("--long") else 60):
        spoilt = bytearray(sound)
        # Heads of pages are where a byte makes a difference: there half of the bytes are spoilt.
        place = (
            dice.randrange(len(sound))
            if dice.random() < 0.5
            else dice.randrange(len(sound) // 4096) * 4096 + dice.randrange(40)
        )
        spoilt[place] ^= 1 << dice.randrange(8)
        path = tmp_path / "spoilt.sqlite3"
        path.write_bytes(spoilt)
        found[_opened(path)] += 1
        for left in tmp_path.glob("spoilt*"):
            left.unlink()

    assert found["refused"] > 0, "a fault that is never noticed was none"
    assert found["served"] > 0, "a byte inside a text is nothing that SQLite can tell"


def _opened(path: Path) -> str:
    store = Store(path, clock=Clock())
    refusal = _refusal(store)
    if refusal is not None:
        assert refusal.code in {"damaged", "open", "foreign", "version", "unreleased"}, refusal
        assert str(path) in str(refusal)
        return "refused"
    store.close(Deadline(5))
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    return "served"


def _refusal(store: Store) -> StoreError | None:
    try:
        store.open()
    except StoreError as error:
        return error
    return None
