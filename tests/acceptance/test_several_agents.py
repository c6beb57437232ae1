"""Several agents in one process: one start, one ready, one drain, one end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until
from support_hub import running_hub
from support_proxy import FaultProxy, cdm_through

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.conftest import World

    from blocks_worker.client.client import TaskClient

    Open = Callable[[], TaskClient]

BOTH = ("--handler", "handlers:steady")


def said(text: str) -> list[str]:
    """Return what the worker said, in its order; its errors are plain lines."""
    return [record["message"] for record in records(text) if record["message"].startswith("[agent] ")]


#: Loggers whose lines are of the process, or of the hub that runs in it.
OF_ALL = {"blocks_worker.program", "blocks_worker.runtime.local"}


def records(text: str) -> list[dict[str, Any]]:
    """Return the lines that are records."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def nameless(text: str) -> set[str]:
    """Return the loggers of lines that name no agent, those of the hub left out."""
    loggers = {record["logger"] for record in records(text) if "agent" not in record or "instance" not in record}
    return {logger for logger in loggers if not logger.startswith("blocks_worker.hub.")}


def owners(text: str) -> set[tuple[str, str]]:
    """Return the agents and instances that lines name; a line of the hub names none."""
    assert not [one for one in records(text) if one["logger"].startswith("blocks_worker.hub.") and "agent" in one]
    return {(one["agent"], one["instance"]) for one in records(text) if "instance" in one}


@pytest.mark.parametrize("has_hub", [True, False], ids=["hub apart", "hub inside"])
def test_one_process_serves_several_agents(world: World, client: Open, *, has_hub: bool) -> None:
    """[R-61] Each agent has an instance of its own; all are ready before that is said; one signal drains both."""
    if has_hub:
        world.hub()
    worker = world.worker("handlers:hold", *BOTH)
    before = said(worker.text())
    one, other = (client().send_message(agent_name=name, request_parts="held") for name in ("hold", "steady"))
    wait_until(lambda: len(world.notes("start")) == 2, 60, "both runs")
    instances = {name: each[0]["instanceId"] for name, each in world.agents().items()}

    worker.signal()
    world.open_gate()

    assert worker.process.wait(60) == 0
    assert [line for line in before if "ready" in line] == ["[agent] ready: registered and listening as hold, steady"]
    assert {f"[agent] {name}: instance {instances[name]}" for name in ("hold", "steady")} <= set(before)
    assert instances["hold"] != instances["steady"]
    assert said(worker.text())[-1] == "[agent] drained: 2 completed, 0 failed, 0 canceled, 0 given back"
    assert len({pid for _, _, _, pid, _ in world.notes("end")}) == 1
    assert nameless(worker.text()) <= OF_ALL
    assert {(name, instances[name]) for name in instances} == owners(worker.text())
    if has_hub:
        assert [each.wait_for_terminal(timeout=60).state for each in (one, other)] == ["completed"] * 2
    else:
        # The hub that went with the process comes back with the next one, and has both outcomes.
        world.worker("echo")
        assert [client().get_task(each.task_id).state for each in (one, other)] == ["completed"] * 2


@pytest.mark.parametrize("busy", ["hold", "steady"])
def test_the_hub_inside_outlives_each_of_them(world: World, client: Open, busy: str) -> None:
    """[R-61] The hub in the process ends after the last agent, whichever has it: the one still at work needs it."""
    worker = world.worker("handlers:hold", *BOTH)
    client().send_message(agent_name=busy, request_parts="held")
    wait_until(lambda: world.notes("start"), 60, "the run")

    worker.signal()
    idle = "steady" if busy == "hold" else "hold"
    wait_until(lambda: not world.agents()[idle], 60, "the end of the idle one")
    world.open_gate()

    assert worker.process.wait(60) == 0
    assert worker.text().count('"message":"hub_started"') == 1
    assert said(worker.text())[-1] == "[agent] drained: 1 completed, 0 failed, 0 canceled, 0 given back"


def test_a_second_signal_hurries_all(world: World, client: Open) -> None:
    """[R-61] A second signal cancels the runs of every agent at once, and the process ends with 0."""
    world.hub()
    worker = world.worker("handlers:hold", "--handler", "handlers:obey")
    for name in ("hold", "obey"):
        client().send_message(agent_name=name, request_parts="x")
    wait_until(lambda: len(world.notes("start")) == 2, 60, "both runs")

    worker.signal(2)

    assert worker.process.wait(60) == 0
    assert said(worker.text())[-1].startswith("[agent] drained: 0 completed, ")


def test_one_that_cannot_go_on_drains_the_others(world: World, client: Open) -> None:
    """[R-61] An agent taken offline ends the process with its exit code, after what the other one runs is done."""
    world.hub()
    worker = world.worker("handlers:hold", *BOTH)
    session = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), 60, "the run")

    assert world.run("blocks", "agents", "offline", "steady").returncode == 0
    worker.wait_for("steady cannot go on: draining hold")
    world.open_gate()

    assert worker.process.wait(60) == 77
    assert "blocks-run: steady: " in worker.text()
    assert session.wait_for_terminal(timeout=60).state == "completed"
    assert said(worker.text())[-1] == "[agent] drained: 1 completed, 0 failed, 0 canceled, 0 given back"


def test_one_that_is_refused_at_the_start_ends_the_process(world: World) -> None:
    """[R-61] Where one agent is not let in, the process ends with that code and says which one it was."""
    world.hub()
    world.worker("echo").terminate()
    assert world.run("blocks", "agents", "offline", "echo").returncode == 0
    done = world.run("blocks-run", "--handler", "adder", "--handler", "echo")

    assert done.returncode == 77
    assert "blocks-run: echo: " in done.stderr
    assert "[agent] ready" not in done.stdout


def test_a_start_that_comes_late_keeps_no_process_that_was_refused(world: World) -> None:
    """[R-61] One agent is not let in while the hub still thinks about the other: the process ends all the same."""
    with running_hub(world.folder / "hub") as hub, FaultProxy(hub.address.url) as proxy:
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), world.folder, hub=proxy)
        login = {"BLOCKS_CDM_URL": cdm, "BLOCKS_API_KEY": hub.key}
        world.worker("echo", **login).terminate()
        assert world.run("blocks", "agents", "offline", "echo", **login).returncode == 0
        proxy.delay(4.0, lambda exchange: b'"adder"' in exchange.body)
        done = world.run("blocks-run", "--handler", "adder", "--handler", "echo", **login)

    assert done.returncode == 77, done.stderr
    assert "blocks-run: echo: " in done.stderr


def test_one_that_is_superseded_ends_the_process(world: World, client: Open) -> None:
    """[R-61] A newer process under the instance name of one of them: the other is drained, and the code is 78."""
    world.hub()
    worker = world.worker("handlers:hold", *BOTH)
    session = client().send_message(agent_name="hold", request_parts="x")
    wait_until(lambda: world.notes("start"), 60, "the run")
    (instance,) = world.agents()["steady"]

    newer = world.worker("handlers:steady", "--instance-id", instance["instanceId"])
    worker.wait_for("steady cannot go on: draining hold")
    world.open_gate()

    assert worker.process.wait(60) == 78
    assert "blocks-run: steady: " in worker.text()
    assert session.wait_for_terminal(timeout=60).state == "completed"
    assert newer.process.poll() is None
