"""What a shell offers behind TAB."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from support_hub import Caller, running_hub

from blocks_worker.cli import completion
from blocks_worker.cli.main import blocks
from blocks_worker.cli.run import run
from blocks_worker.config import state_dir

if TYPE_CHECKING:
    from pathlib import Path

    import click


def offered(*words: str, command: click.Command = blocks, program: str = "blocks") -> list[str]:
    """Return what bash offers for the last word, which may be empty."""
    environment = {
        f"_{program.upper().replace('-', '_')}_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join([program, *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = CliRunner().invoke(command, env=environment, prog_name=program)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.split()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, and give a slow hub its time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(completion, "_PATIENCE", 30.0)
    return tmp_path


def test_commands_agents_and_tasks_are_offered() -> None:
    """Agents by their beginning; of tasks those that the command is for."""
    with running_hub(state_dir()) as hub:
        ids = some_tasks(hub)
        assert {"send", "watch"} <= set(offered(""))
        assert offered("send", "ec") == ["echo"]
        assert offered("agents", "offline", "") == offered("tasks", "--agent", "") == ["echo", "other"]
        assert set(offered("watch", "")) == set(ids)
        assert offered("cancel", "") == offered("pause", ids[0][:30]) == [ids[0]]
        assert offered("retry", "") == [ids[1]]


def some_tasks(hub: Caller) -> list[str]:
    """Have two agents, a task that waits and one that was canceled."""
    hub.connect("echo")
    hub.connect("other")
    token = hub.consumer()["accessToken"]
    waits, canceled = (hub.submit(token, "echo") for _ in range(2))
    assert hub.ask("POST", f"/api/v1/tasks/{canceled}/cancel", {}, bearer=token).status == 202
    return [waits, canceled]


def test_without_a_hub_nothing_is_offered_and_nothing_said() -> None:
    """There is no place for an error behind TAB."""
    assert offered("watch", "") == offered("send", "") == []


def test_handlers_of_the_folder_are_offered(folder: Path) -> None:
    """`blocks-run` and `blocks dev` know the registry; one that is wrong offers nothing."""
    entry = {"name": "greet", "runtime": "python", "entrypoint": "greet:handler"}
    (folder / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": [entry]}))
    assert offered("--handler", "g", command=run, program="blocks-run") == ["greet"]
    assert "greet" in offered("dev", "--handler", "")

    (folder / "registry.json").write_text("{")
    assert offered("dev", "--handler", "") == []
