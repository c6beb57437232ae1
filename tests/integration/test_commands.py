"""Commands of `blocks` at a real hub, in this process: what they say, and the code they end with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from support_hub import Caller, running_hub

from blocks_worker.cli.main import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run one hub for all tests of this file."""
    with running_hub(tmp_path_factory.mktemp("hub")) as caller:
        yield caller


@pytest.fixture(autouse=True)
def entered(hub: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in an empty folder, and configured for the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{hub.address.url}/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(blocks, arguments)


def register(hub: Caller, name: str) -> None:
    """Put an agent in the registry."""
    bearer = hub.consumer()["accessToken"]
    answer = hub.ask("POST", "/api/v1/registry/agents", {"agentName": name}, bearer=bearer)
    assert answer.status < 300, answer.body


def test_who_sends_to_an_agent_that_is_offline_is_told_to_let_it_in(hub: Caller) -> None:
    """No worker can be started for it: the cure is another one, and the same line names the task."""
    register(hub, "away")
    assert run("agents", "offline", "away").exit_code == 0

    done = run("send", "away", "1", "--timeout", "0.2")

    assert done.exit_code == 3
    assert done.stderr.startswith("agent 'away' was taken offline; the task ")
    assert "'blocks agents online away'" in done.stderr
    assert "blocks-run" not in done.stderr


@pytest.mark.parametrize(("agent", "cure"), [("echo", "'blocks-run --handler echo'"), ("other", "start the one that")])
def test_no_handler_is_guessed_from_the_name_of_an_agent(hub: Caller, agent: str, cure: str) -> None:
    """Only of those that come with the package the handler is known by it."""
    register(hub, agent)

    done = run("send", agent, "1", "--timeout", "0.2")

    assert cure in done.stderr
    assert ("blocks-run" in done.stderr) == (agent == "echo")


@pytest.mark.parametrize(
    "command", [["instances", "--agent"], ["agents", "offline"], ["agents", "online"], ["tasks", "--agent"]]
)
def test_an_agent_that_is_none_is_told_everywhere_alike(command: list[str]) -> None:
    """One sentence and one exit code, whatever was wanted of it."""
    done = run(*command, "nope")

    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "there is no agent 'nope', or it is not yours; " in done.stderr
    assert "blocks agents' lists them" in done.stderr


def test_an_agent_without_tasks_is_no_error(hub: Caller) -> None:
    """It is there, and there is nothing to list."""
    register(hub, "quiet")

    done = run("tasks", "--agent", "quiet")

    assert (done.exit_code, done.stderr) == (0, "no task found of agent 'quiet'\n")


def test_a_state_that_is_none_is_a_wrong_command_line() -> None:
    """It is refused before anything is asked, with the states that there are."""
    done = run("tasks", "--state", "faild")

    assert done.exit_code == 2
    for state in ("canceled", "completed", "failed", "paused", "pending", "running"):
        assert state in done.stderr


def test_a_key_that_was_revoked_is_told_as_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what became of it and where it stands, not that nobody knows it."""
    made = run("keys", "create", "short-lived").stdout.strip()
    assert run("keys", "revoke", "short-lived").exit_code == 0
    monkeypatch.setenv("BLOCKS_API_KEY", made)

    done = run("tasks")

    assert done.exit_code == 1
    assert "the API key was revoked; BLOCKS_API_KEY (in the environment or .env) holds it: unset it" in done.stderr


def test_one_task_is_shown_field_by_field(hub: Caller) -> None:
    """By a part of its id, for people and as JSON; one that nobody knows is named with what to type next."""
    register(hub, "shown")
    task_id = hub.submit(hub.consumer()["accessToken"], "shown")

    told = run("task", task_id[-12:])
    assert told.exit_code == 0, told.stderr
    fields = dict(line.split(":", 1) for line in told.stdout.splitlines())
    assert (fields["taskId"].strip(), fields["agentName"].strip(), fields["state"].strip()) == (
        task_id,
        "shown",
        "pending",
    )
    assert json.loads(run("task", task_id, "--json").stdout)["taskId"] == task_id

    unknown = run("task", "nosuchtask")
    assert unknown.exit_code == 1
    assert "'nosuchtask'" in unknown.stderr
    assert "blocks tasks" in unknown.stderr
