"""Retry policies as callers write them."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.client.policies import policy_of
from blocks_worker.protocol.tasks import RetryPolicy


def test_what_is_left_out_is_usual() -> None:
    """An empty policy is one run; each key is taken as it is meant."""
    assert policy_of({}) == RetryPolicy(max_attempts=1, initial_delay_sec=1.0, max_delay_sec=60.0, retry_on=None)
    told = policy_of(
        {"maxAttempts": 3, "initialDelaySec": 0, "maxDelaySec": 5, "retryOn": ("timeout", "handler_error")}
    )
    assert told == RetryPolicy(
        max_attempts=3, initial_delay_sec=0.0, max_delay_sec=5.0, retry_on=["handler_error", "timeout"]
    )


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"maxTries": 3}, ValueError, "does not know maxTries"),
        ({"maxAttempts": 0}, ValueError, "maxAttempts"),
        ({"maxAttempts": 101}, ValueError, "1 to 100"),
        ({"maxAttempts": True}, ValueError, "maxAttempts"),
        ({"maxAttempts": 2.0}, ValueError, "maxAttempts"),
        ({"initialDelaySec": -1}, ValueError, "initialDelaySec"),
        ({"initialDelaySec": float("nan")}, ValueError, "initialDelaySec"),
        ({"maxDelaySec": "1"}, ValueError, "maxDelaySec"),
        ({"retryOn": "handler_error"}, TypeError, "list"),
        ({"retryOn": ["handler_eror"]}, ValueError, "does not know handler_eror"),
        ({"retryOn": ["invalid_input"]}, ValueError, "stays wrong"),
        (3, TypeError, "dict"),
    ],
)
def test_what_does_not_fit_is_named(given: Any, kind: type[Exception], text: str) -> None:
    """A wrong policy is refused with its key and what would fit."""
    with pytest.raises(kind, match=text):
        policy_of(given)
