"""Events in one line each."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.cli.display import event_line, progress_shown, warning_of
from blocks_worker.client.events import TaskEvent

REF = {"kind": "inline", "mimeType": "text/plain", "size": 2, "data": "aGk="}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"type": "progress", "progress": 0.5, "message": "half"}, "progress 50% half"),
        ({"type": "progress", "progress": 0, "state": "running"}, "progress running"),
        ({"type": "artifact", "artifactRef": {**REF, "fileName": "a.txt"}}, "artifact a.txt text/plain 2 bytes"),
        ({"type": "artifact", "artifactRef": REF}, "artifact (no name) text/plain 2 bytes"),
        ({"type": "system", "status": "restarted"}, "system restarted"),
        ({"type": "cancel_requested"}, "cancel_requested"),
        ({"type": "terminal", "state": "failed", "error": "no such thing"}, "terminal failed no such thing"),
        ({"type": "terminal", "state": "canceled", "reason": "enough"}, "terminal canceled enough"),
    ],
)
def test_every_type_has_its_line(fields: dict[str, Any], line: str) -> None:
    """A line says the type first, then what matters of it."""
    assert event_line(TaskEvent.of({"taskId": "t", "epoch": 1, **fields})) == line


def test_what_holds_a_task_up_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Where lines do not move, each change is one: why it does not get on, and that it does again."""
    with progress_shown("task t", moves=False) as shown:
        shown.held_up(None)
        shown.progress(TaskEvent.of({"taskId": "t", "epoch": 1, "type": "progress", "message": "step"}))
        for why in ("paused", "paused", None, None, "queued"):
            shown.held_up(why)

    assert capsys.readouterr().err.splitlines() == ["step", "task t: paused", "task t: goes on", "task t: queued"]


def test_a_line_stays_one() -> None:
    """Whatever a handler says, it is one line, and nothing in it is obeyed by a terminal."""
    said = event_line(TaskEvent.of({"taskId": "t", "epoch": 1, "type": "progress", "message": "a\nb\x1b[2J"}))

    assert "\n" not in said
    assert "\x1b" not in said


def test_a_warning_is_a_line_for_people() -> None:
    """What was left out of a result is told as a warning; other events of the system are none."""
    said = [
        warning_of(TaskEvent.of({"taskId": "t", "epoch": 1, "type": "system", **fields}))
        for fields in ({"status": "warning", "message": "left\nout"}, {"status": "restarted"})
    ]

    assert said == ["warning: left\\nout", None]
