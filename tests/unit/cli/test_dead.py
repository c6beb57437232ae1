"""`blocks dead`, against a real hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from support import wait_until
from support_hub import Caller, running_hub

from blocks_worker import TaskClient
from blocks_worker.cli.main import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


def run(*arguments: str, typed: str = "") -> Result:
    """Run a command of `blocks dead`."""
    return CliRunner().invoke(blocks, ("dead", *arguments), input=typed)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run a hub in which three tasks were given up, one of another agent, and one waits."""
    folder = tmp_path_factory.mktemp("state")
    with running_hub(folder) as caller:
        for agent in ("idle", "other"):
            caller.connect(agent)
        token = caller.consumer()["accessToken"]
        for agent in ("idle", "idle", "other"):
            caller.submit(token, agent, queueTtl=0.001)
        caller.submit(token, "idle")
        wait_until(lambda: len(caller.ask("GET", "/api/v1/tasks?dead=any", bearer=token).json["tasks"]) == 3)
        yield caller


@pytest.fixture(autouse=True)
def _found(hub: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands find that hub, far from the scripts of a clone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{hub.address.url}/api/v1/cdm")


def test_they_are_listed_and_shown() -> None:
    """The list tells each with its reason, and selects; one is shown with all that is known, as is no other task."""
    rows = json.loads(run("list", "--json").stdout)
    lines = run("list", "--agent", "other").stdout.splitlines()

    assert [(row["agentName"], row["deadReason"]) for row in rows] == [
        ("other", "queue_ttl"),
        ("idle", "queue_ttl"),
        ("idle", "queue_ttl"),
    ]
    assert [line.split("\t")[:3] for line in lines[1:]] == [[rows[0]["taskId"], "other", "queue_ttl"]]
    assert json.loads(run("list", "--json", "--since", "1h", "--limit", "2").stdout) == rows[:2]
    assert run("list", "--reason", "poison").stderr == run("list", "--until", "1h").stderr == "no task was given up\n"
    shown = run("show", rows[0]["taskId"][-8:])
    assert "deadReason:        queue_ttl" in shown.stdout
    assert f"blocks dead redrive {rows[0]['taskId']}" in shown.stderr


def test_one_that_was_not_given_up_is_not_shown() -> None:
    """It is said how the task stands."""
    with TaskClient.create("free") as client:
        waits = next(task for task in client.list_tasks().tasks if "deadReason" not in task.extra)
    told = run("show", waits.task_id)

    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert "did not give the task" in told.stderr


def test_many_are_sent_again_once_and_not_unasked() -> None:
    """Nobody who says yes: nothing is sent; with --yes each is sent once, however often; another key sends again."""
    asked = run("redrive", "--agent", "idle")
    declined = run("redrive", "--agent", "idle", typed="n\n")
    with TaskClient.create("free") as client:
        assert not [task for task in client.list_tasks().tasks if "retryOf" in task.extra]
    first, second = (run("redrive", "--agent", "idle", "--yes", "--json") for _ in range(2))
    other = run("redrive", "--reason", "queue_ttl", "--agent", "idle", "--json", "--key", "later", typed="y\n")

    assert (asked.exit_code, declined.exit_code) == (1, 1)
    assert "send 2 tasks again?" in asked.stderr
    assert "nothing was sent" in declined.stderr
    told = [json.loads(line) for line in first.stdout.splitlines()]
    assert second.stdout == first.stdout
    again = [json.loads(line) for line in other.stdout.splitlines()]
    assert [each["retryOf"] for each in again] == [each["retryOf"] for each in told]
    assert len({each["taskId"] for each in (*told, *again)}) == 4


def test_what_is_to_be_sent_is_said_in_one_way() -> None:
    """Tasks or flags, not both and not neither; one that cannot be sent is told, the others are."""
    rows = json.loads(run("list", "--json").stdout)
    both = run("redrive", rows[0]["taskId"], "--all")
    neither = run("redrive")
    some = run("redrive", rows[0]["taskId"], "nothing-of-the-kind")

    assert (both.exit_code, neither.exit_code, some.exit_code) == (2, 2, 1)
    assert some.stdout.startswith(f"task {rows[0]['taskId']} goes on as ")
    assert "there is no task 'nothing-of-the-kind'" in some.stderr


def test_what_was_sent_again_before_is_told_so(hub: Caller) -> None:
    """The same command once more sends nothing: it tells the new task, how that stands, and how to send another."""
    old = json.loads(run("list", "--agent", "other", "--json").stdout)[0]["taskId"]
    first = run("redrive", old, "--key", "told").stdout
    new = first.removeprefix(f"task {old} goes on as ").strip()
    hub.ask("POST", f"/api/v1/tasks/{new}/cancel", {}, bearer=hub.consumer()["accessToken"])

    told = f"task {old} was sent again before as {new}, which is canceled; --key NEW sends it once more\n"
    assert run("redrive", old, "--key", "told").stdout == told
    assert run("redrive", old, "--key", "anew").stdout.startswith(f"task {old} goes on as ")


def test_the_client_lists_them(hub: Caller) -> None:
    """By any reason or one; another word is refused with those that there are."""
    with TaskClient.create("free") as client:
        assert len(client.list_tasks(dead=True).tasks) == len(client.list_tasks(dead="queue_ttl").tasks) == 3
        assert client.list_tasks(dead="poison").tasks == []
        with pytest.raises(ValueError, match="attempts, poison, lease_lost, queue_ttl"):
            client.list_tasks(dead="odd")
