"""Failed tasks at a terminal: listed with their reason, and sent again, one or many."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support import wait_until

if TYPE_CHECKING:
    from acceptance.conftest import World

FLAKY = """
from pathlib import Path

def handler(task):
    mark = Path(task.text())
    if not mark.exists():
        mark.touch()
        raise LookupError(f"no {task.text()} yet")
    return "found"
"""


def test_failed_tasks_are_listed_and_sent_again(world: World) -> None:
    """The list says why each failed; `blocks retry` takes several and tells each, also one that is refused. [R-64]"""
    (world.folder / "flaky.py").write_text(FLAKY)
    world.worker("flaky:handler")
    for name in ("apples", "pears"):
        assert world.run("blocks", "send", "flaky", name).returncode == 1
    listed = world.run("blocks", "tasks", "--state", "failed").stdout.splitlines()
    assert [line.split("\t")[-1] for line in listed[1:]] == ["no pears yet", "no apples yet"]
    ids = [line.split("\t")[0] for line in listed[1:]]

    done = world.run("blocks", "retry", *ids, "--json")

    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [each["retryOf"] for each in told]) == (0, ids)
    for each in told:
        assert world.run("blocks", "watch", each["taskId"]).returncode == 0
    again = world.run("blocks", "retry", told[0]["taskId"], ids[1][-8:])
    assert again.returncode == 1
    assert "only one that failed or was canceled can be sent again" in again.stderr
    assert f"task {ids[1]} is sent again as " in again.stdout
    completed = wait_until(
        lambda: len(json.loads(world.run("blocks", "tasks", "--state", "completed", "--json").stdout)) == 3, 30
    )
    assert completed
