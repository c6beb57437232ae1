"""`blocks keys` and `blocks agents offline`, against a real hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from support_hub import Caller, running_hub

from blocks_worker.cli.main import blocks
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """Run a hub in the state folder of this test, far from the scripts of a clone."""
    monkeypatch.chdir(tmp_path)
    with running_hub(state_dir()) as caller:
        yield caller


def run(*arguments: str) -> Result:
    """Run a command of `blocks`."""
    return CliRunner().invoke(blocks, arguments)


def test_a_key_from_its_making_to_its_end(hub: Caller) -> None:
    """The key alone is on standard output, once; the list tells its uses; revoked it opens nothing."""
    made = run("keys", "create", "ci", "--owner", "carol")
    key = made.stdout.strip()
    assert hub.consumer(key)["userId"] == "carol"
    row = json.loads(run("keys", "list", "--json").stdout)[-1]

    assert made.stdout.count("\n") == 1
    assert row["id"] in made.stderr
    assert (row["name"], row["owner"], row["revoked"], row["lastUsed"] is None) == ("ci", "carol", False, False)
    listed = run("keys", "list").stdout
    assert "in force" in listed
    assert key not in listed
    assert run("keys", "revoke", row["id"]).exit_code == 0
    assert "revoked" in run("keys", "list").stdout
    assert hub.ask("POST", "/api/v1/auth/agent/consumer-token", {"apiKey": key}).status == 401


def test_a_key_as_json(hub: Caller) -> None:
    """With --json the row and the key are one object."""
    made = json.loads(run("keys", "create", "ci", "--json").stdout)

    assert (made["owner"], made["key"][:3]) == ("local", "bk_")


def test_what_cannot_be_done_is_said_in_one_line(hub: Caller) -> None:
    """An unknown key, the key of the state folder, a bad name: exit 1 or 2 with the reason."""
    local = json.loads(run("keys", "list", "--json").stdout)[0]["id"]
    unknown, own, bad = run("keys", "revoke", "key_0"), run("keys", "revoke", local), run("keys", "create", "")

    assert (unknown.exit_code, own.exit_code, bad.exit_code) == (1, 1, 2)
    assert "local-key" in own.stderr
    assert unknown.stderr == "blocks: there is no key 'key_0', or it is not yours; 'blocks keys list' shows their ids\n"


@pytest.mark.parametrize("arguments", [["keys", "list"], ["agents"], ["tasks"], ["keys", "create", "x"]])
def test_a_foreign_key_in_the_environment_is_named(
    hub: Caller, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """The line says which variable holds it, and to unset it."""
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_" + "x" * 43)

    done = run(*arguments)

    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "BLOCKS_API_KEY" in done.stderr
    assert "unset it" in done.stderr


def test_an_agent_is_taken_offline_and_let_in_again(hub: Caller) -> None:
    """The list shows it as offline meanwhile."""
    hub.connect("parked")

    assert run("agents", "offline", "parked").stdout == "parked is offline\n"
    assert "offline" in run("agents").stdout
    assert json.loads(run("agents", "--json").stdout)[0]["offline"] is True
    assert run("agents", "online", "parked").stdout == "parked is online\n"
    unknown = run("agents", "offline", "nobody")
    assert unknown.exit_code == 1
    assert unknown.stderr == "blocks: there is no agent 'nobody', or it is not yours; 'blocks agents' lists them\n"


@pytest.mark.parametrize("command", [["cancel"], ["watch"], ["retry"], ["pause"], ["resume"]])
def test_a_task_that_is_none_is_named(hub: Caller, command: list[str]) -> None:
    """What was typed stands in the line, with the command that lists tasks; of a short part, how long one is."""
    long, short = run(*command, "nope-nope"), run(*command, "00")

    assert (long.exit_code, short.exit_code) == (1, 1)
    assert "there is no task 'nope-nope', or it is not yours; 'blocks tasks' lists them" in long.stderr
    assert "no task '00'" in short.stderr
    assert "write at least 4 characters of an id; 'blocks tasks'" in short.stderr


def test_a_key_is_revoked_by_its_name_or_a_part_of_its_id(hub: Caller) -> None:
    """A name in force, or a beginning or an end that no other id has; several are told apart, --json gives the row."""
    one, two, twin = (json.loads(run("keys", "create", name, "--json").stdout) for name in ("one", "two", "two"))

    several = run("keys", "revoke", "two")
    assert several.exit_code == 1
    assert f"2 keys are called 'two': {two['id']}, {twin['id']}; write more of the id" in several.stderr
    assert run("keys", "revoke", two["id"][:-1]).stdout == f"{two['id']} revoked\n"
    assert run("keys", "revoke", "two").stdout == f"{twin['id']} revoked\n", "the other one is not in force"
    short = run("keys", "revoke", one["id"][:7])
    assert (short.exit_code, "there is no key" in short.stderr) == (1, True), "too short to be meant"
    row = json.loads(run("keys", "revoke", "one", "--json").stdout)
    assert (row["id"], row["name"], row["revoked"]) == (one["id"], "one", True)
    assert hub.ask("POST", "/api/v1/auth/agent/consumer-token", {"apiKey": one["key"]}).status == 401
