"""What the list of tasks says of each."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.cli.tasks import _line
from blocks_worker.protocol.tasks import TaskRow


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"error": "boom", "error_code": "handler_error"}, "boom"),
        ({"error": "timeout", "error_code": "timeout", "reason": "max_runtime"}, "timeout: over its max_runtime"),
        (
            {"error": "timeout", "error_code": "timeout", "reason": "progress"},
            "timeout: it said nothing for too long (progress_timeout)",
        ),
        ({"reason": "no longer needed"}, "no longer needed"),
        ({}, None),
    ],
)
def test_a_line_says_why_a_task_ended(fields: dict[str, Any], said: str | None) -> None:
    """The error, with the limit that was over; else the reason of a cancel. [R-64]"""
    row = TaskRow(
        task_id="t", agent_name="echo", owner="ann", state="failed", created_time=0, updated_time=0, attempt=1,
        epoch=1, last_n=0, **fields,
    )  # fmt: skip

    assert _line(row)[-1] == said


def test_a_task_that_goes_on_has_no_error() -> None:
    """Why it was asked to stop is no error of a task that still runs."""
    row = TaskRow(
        task_id="t", agent_name="echo", owner="ann", state="running", created_time=0, updated_time=0, attempt=1,
        epoch=1, last_n=0, cancel_requested=True, reason="terminated",
    )  # fmt: skip

    assert _line(row)[-1] is None
