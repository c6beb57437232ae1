"""What every thread is at, in the log."""

import logging

import pytest

from blocks_worker.observability.stacks import log_stacks


def test_each_thread_is_told_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """One record a thread says where it is."""
    with caplog.at_level(logging.WARNING):
        log_stacks("a test")
    told = {vars(record)["thread_name"]: vars(record)["stack"] for record in caplog.records}

    assert any(line.endswith(" test_each_thread_is_told_with_its_stack") for line in told["MainThread"])
