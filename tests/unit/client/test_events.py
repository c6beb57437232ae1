"""Events as people see them."""

from __future__ import annotations

from blocks_worker.client.events import TaskEvent
from blocks_worker.errors import TaskFailedError


def test_the_repr_of_an_event_says_what_is_set() -> None:
    """Fields without a value and the data of an artifact are left out."""
    ref = {"kind": "inline", "mimeType": "text/plain", "size": 2, "data": "aGk=", "fileName": "a.txt"}
    events = [
        TaskEvent.of({"type": "progress", "taskId": "t", "epoch": 1, "progress": 0.0, "message": "on"}),
        TaskEvent.of({"type": "artifact", "taskId": "t", "epoch": 1, "artifactRef": ref}),
    ]

    assert list(map(repr, events)) == [
        "TaskEvent(type='progress', task_id='t', epoch=1, message='on', progress=0.0)",
        "TaskEvent(type='artifact', task_id='t', epoch=1, artifact_ref=<a.txt text/plain 2 bytes>)",
    ]


def test_a_failure_is_told_in_one_sentence() -> None:
    """The exception of a task that did not complete says how it ended and why."""
    ends = [{"state": "failed", "error": "no such city"}, {"state": "canceled", "reason": "enough"}]
    said = [
        str(TaskFailedError("t", TaskEvent.of({"type": "terminal", "taskId": "t", "epoch": 1, **end}))) for end in ends
    ]

    assert said == ["task t failed: no such city", "task t was canceled: enough"]
